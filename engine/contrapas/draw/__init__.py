"""Pictures of a machine as text, SVG, Mermaid, DOT and JSON; it may not read a log, a clock or an app."""
