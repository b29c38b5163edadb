"""Rows of the catalogue that are held from elsewhere: by tests closer by, or by a part of the product that is still to come."""

from __future__ import annotations

SHOWN: dict[int, tuple[str, ...]] = {
    1: ("tests/check/test_corpus.py", "tests/app/test_readme.py", "tests/cli/test_first_minute.py"),
    2: (
        "tests/app/test_app.py::test_two_sagas_or_services_of_one_name_are_refused",
        "tests/codec/test_values.py::test_two_types_of_one_name_are_refused",
        "tests/compiler/test_labels.py::test_an_explicit_label_stays_and_may_not_stand_twice",
    ),
    3: ("tests/check/test_corpus.py::test_a_wrong_saga_is_found_at_its_line",),
    4: ("tests/check/test_corpus.py::test_a_wrong_saga_is_found_at_its_line",),
    6: ("tests/check/test_corpus.py::test_a_wrong_saga_is_found_at_its_line",),
    8: (
        "tests/versions/test_compare.py",
        "tests/versions/test_releases.py::test_what_cannot_go_on_parks_unchanged_and_goes_on_by_itself_under_the_old_release",
        "tests/cli/test_live.py",
    ),
    9: ("tests/check/test_replies.py", "tests/runtime/test_services.py"),
    10: (
        "tests/check/test_findings.py::test_a_saga_that_is_too_large_to_explore_is_said_and_not_passed_over",
    ),
    11: (
        "tests/check/test_corpus.py::test_a_wrong_saga_is_found_at_its_line",
        "tests/core/test_parking.py::test_a_record_that_would_grow_beyond_its_limit_parks_in_the_state_before",
    ),
    14: (
        "tests/cli/test_reading.py::test_a_damaged_record_is_named_and_exits_9",
        "tests/fuzz/test_files.py::test_a_damaged_log_is_refused_or_right",
        "tests/core/test_envelope.py::test_cut_changed_and_foreign_bytes_are_damage_and_nothing_else",
    ),
    25: (
        "tests/catalogue/test_payloads.py::test_b24_a_message_above_what_the_lane_takes_is_a_dead_letter_by_reference",
    ),
    49: ("tests/cli/test_where.py::test_anything_else_is_refused",),
    53: (
        "tests/connectors/test_kafka_options.py::test_b53_a_secret_file_that_everybody_can_read_is_refused_but_in_dev",
        "tests/connectors/test_kafka_options.py::test_a_secret_in_the_address_is_refused_and_not_repeated",
    ),
    54: (
        "tests/connectors/test_kafka_options.py::test_b54_an_unprotected_way_is_refused_but_in_dev",
        "tests/connectors/test_kafka_topics.py::test_b54_a_broker_without_tls_is_no_broker_with_tls",
    ),
    55: ("tests/log/test_sqlite_file.py::test_a_network_file_system_is_refused",),
    58: (
        "tests/connectors/test_kafka_topics.py::test_b58_b59_b64_a_wrong_setting_is_named_refused_and_mended_by_one_command",
    ),
    59: (
        "tests/connectors/test_kafka_doctor.py::test_b59_one_replica_and_one_in_sync_are_refused_and_worth_a_look_in_development",
        "tests/connectors/test_kafka_topics.py::test_one_broker_is_for_development_only",
    ),
    60: (
        "tests/connectors/test_kafka_topics.py::test_b60_a_count_that_is_not_the_recorded_one_is_refused",
        "tests/log/test_sqlite_file.py::test_another_namespace_count_or_kind_of_file_is_refused",
        "tests/connectors/test_postgres_server.py::test_no_tables_another_count_and_a_copy_on_another_server_are_refused",
    ),
    61: (
        "tests/connectors/test_kafka_topics.py::test_nothing_is_made_unasked",
        "tests/connectors/test_kafka_topics.py::test_b61_a_topic_of_somebody_else_is_refused",
        "tests/log/test_sqlite_file.py::test_another_namespace_count_or_kind_of_file_is_refused",
        "tests/cli/test_running.py::test_produce_names_a_missing_topic_or_file",
        "tests/runtime/test_nothing_twice.py::test_an_unknown_destination_parks_its_instance_and_retry_sends_the_message",
    ),
    64: (
        "tests/connectors/test_kafka_topics.py::test_b58_b59_b64_a_wrong_setting_is_named_refused_and_mended_by_one_command",
        "tests/connectors/test_kafka_doctor.py::test_b64_dead_letters_must_hold_the_largest_source",
    ),
    65: (
        "tests/connectors/test_postgres_server.py::test_a_missing_permission_is_named",
        "tests/connectors/test_kafka_doctor.py::test_b65_a_missing_right_is_named_with_principal_resource_operation_and_command",
    ),
    66: (
        "tests/connectors/test_kafka_topics.py::test_b66_a_broker_that_is_not_there_is_said_within_three_seconds",
        "tests/connectors/test_kafka_topics.py::test_b66_the_records_of_another_namespace_or_cluster_are_refused",
        "tests/connectors/test_postgres_server.py::test_a_server_that_is_down_or_unknown_is_named",
        "tests/cli/test_first_minute.py::test_what_cannot_start_says_why_within_the_line_budgets",
    ),
    67: (
        "tests/connectors/test_kafka_doctor.py::test_b67_an_open_transaction_is_named_with_its_producer_its_age_and_how_to_end_it",
    ),
    70: (
        "tests/connectors/test_postgres_server.py::test_a_server_that_loses_what_it_confirms_is_refused_unless_told_so",
        "tests/connectors/test_postgres_server.py::test_tables_newer_or_older_than_this_release_are_refused",
        "tests/connectors/test_postgres_server.py::test_a_proxy_that_pools_by_transaction_is_refused",
    ),
    71: (
        "tests/runtime/test_relay.py::test_whoever_holds_the_outbox_back_for_long_is_named",
        "tests/connectors/test_postgres_outbox.py::test_what_holds_the_outbox_back_is_named_with_pid_age_and_query",
    ),
    74: (
        "tests/web/test_server.py::test_foreign_hosts_and_pages_are_refused",
        "tests/web/test_server.py::test_state_needs_the_token_and_waits_for_the_end",
        "tests/fuzz/test_http.py::test_any_requests_get_answers_that_programs_understand",
    ),
    75: (
        "tests/web/test_server.py::test_requests_are_bounded",
        "tests/fuzz/test_http.py::test_a_length_that_is_no_number_is_refused",
    ),
    79: (
        "tests/core/test_rendezvous.py::test_a_second_instance_is_refused_and_the_first_one_named",
        "tests/runtime/test_steps_and_waits.py::test_a_second_instance_that_waits_for_the_same_value_parks",
    ),
}
"""Row -> the tests that show it."""

COMES: dict[int, tuple[str, str]] = {
    16: ("Kafka, on a real broker", "no schema registry is asked yet: types come from the app alone"),
    35: ("tenancy", "one process serves one namespace, and no field of a message names another"),
    50: ("operations", "there is no verb yet that deletes, resets or rewinds"),
    68: ("NATS", "settings of streams"),
    69: ("NATS", "settings of consumers"),
    73: ("Kafka, on a real broker", "the embedded log's clock is the worker's own; brokers have another"),
    76: ("the web page", "there is no page yet: what is shown to people is the command line's, B-47"),
    77: ("the web page", "there are no pages to turn yet"),
}
"""Row -> the part of the product it belongs to, and why nothing shows it here."""
