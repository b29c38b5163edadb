"""Every code that contrapas prints, once: its title, what it means, what to do about it.

A code never changes its meaning and is never used for something else. The table is text because it is read by people
more often than by the program: a line `CPnnn kind title`, then indented lines that explain, then `>` and the fix.
`contrapas explain CPnnn` prints an entry. This module imports nothing, and parses the table at its first use.
"""

from __future__ import annotations


class Code:
    """One entry: `kind` is `error`, `warning` or `info`."""

    __slots__ = ("code", "explanation", "fix", "kind", "title")

    def __init__(self, code: str, kind: str, title: str, explanation: str, fix: str) -> None:
        self.code = code
        self.kind = kind
        self.title = title
        self.explanation = explanation
        self.fix = fix

    def __repr__(self) -> str:
        return f"<{self.code} {self.kind}: {self.title}>"


def code(name: str) -> Code:
    """The entry of a code; KeyError for an unknown one."""
    return table()[name]


def table() -> dict[str, Code]:
    """Every entry by code, in the order of the file."""
    if not _parsed:
        _parse(_TABLE)
    return _parsed


_parsed: dict[str, Code] = {}


def _parse(text: str) -> None:
    for block in text.strip().split("\nCP"):
        head, _, body = block.removeprefix("CP").partition("\n")
        number, kind, title = head.split(" ", 2)
        lines = [line.strip() for line in body.splitlines()]
        why = " ".join(line for line in lines if line and not line.startswith(">"))
        fix = " ".join(line[1:].strip() for line in lines if line.startswith(">"))
        name = f"CP{number}"
        if name in _parsed:
            raise ValueError(f"{name} stands twice in the table")
        _parsed[name] = Code(name, kind, title, why, fix)


_TABLE = """
CP100 error The compiler does not know this form
  Every form of Python is either on the compiler's list or refused; nothing is guessed.
  > Give the awaited value a name on a line of its own first. If the form is ordinary Python, please report it.
CP101 error A saga awaits something that is no operation
  A saga may be continued by another process, so it can only wait for what the engine records: s.step, s.ask, s.wait,
  s.sleep, s.all, s.first, a called @step or @saga. A task, asyncio.sleep or a choice between operations is none of these.
  > s.sleep for time, s.all for parallel work, within= for a limit, or do the work inside a @step; one await for each.
CP102 error A saga awaits a plain async function
  The compiler cannot stop and continue inside a function that it has not compiled.
  > Mark the function @saga (it becomes part of the instance) or @step (it runs as one unit of work).
CP103 error An async def stands inside a saga
  > Move it to module level and mark it @step or @saga.
CP104 error await inside a generator expression
  A generator keeps its position where nobody can store it.
  > Use a list comprehension, which the compiler turns into a loop that can be stored.
CP105 error await in a default, decorator, annotation or class body
  > Compute the value on a line before.
CP106 error yield in a saga
  > return ends the saga with its outcome; s.emit sends an event on the way.
CP107 error async for in a saga
  The position of an asynchronous iterator cannot be stored.
  > Loop over s.wait, or over a list that a @step returned.
CP108 error async with on something else than s.scope()
  An open resource cannot follow the saga into another process.
  > Open and close it inside a @step.
CP109 error await inside a with block
  The resource would have to stay open while the saga waits, which may take months and change process.
  > Close the resource before the await, or do the whole block inside a @step.
CP110 error await inside try … except*
  > Use except.
CP111 error return, break or continue leaves a finally block
  It would silently drop the exception, or the cancellation, that is on its way out.
  > Do it after the try statement.
CP112 error A jump from a loop in a with block passes a finally that awaits
  > Set a flag, and jump after the with block.
CP113 error A bare raise outside of an except block
  > Name the exception: raise error.
CP114 error await in the guard of a case
  > Assign the value before the match statement.
CP115 error A handle of an operation in flight is passed on
  A Pending belongs to the function that began it; it cannot be an argument, a result, an event or a field.
  > Await it here and pass its result.
CP116 error locals(), vars(), eval, exec or frame access in a saga
  A compiled saga has no frame whose variables these could see.
  > Use the names themselves.
CP117 error An operation is built and never awaited
  An operation does nothing until it is awaited.
  > Put await before it.
CP118 error undo= in a form that the compiler does not know
  An undo is stored with the instance, so it must be a value or a function the compiler can read.
  > A command instance, a call of a @step, a lambda over the reply that gives one of these, or None.
CP119 error point_of_no_return() where it cannot hold for the whole saga
  In a parallel branch, an undo or an inner function it would be unclear what is past the point.
  > Put it on a line of the saga itself.
CP120 error A saga assigns a variable that is not its own
  Globals and closure variables are not part of the state: another process would not see the assignment.
  > Use a local variable, or pass the value as an argument.
CP121 error A step is taken from a mapping the compiler cannot read
  > A module-level Final dict of @step functions with one signature, or a match statement.
CP122 error super() without arguments, or a private name, in compiled code
  > Call a module-level function.
CP123 error s is rebound, stored or captured by an inner function
  s belongs to one activation and is made anew for the next.
  > Pass s on as an argument.
CP124 error The signature of a saga is incomplete
  A saga is an async def whose first parameter is annotated Saga and whose other parameters and result are annotated.
  > Annotate it: async def name(s: Saga, event: Started) -> Outcome
CP125 error A saga waits while it goes through a started iterator
  The position of a generator, map, filter or file cannot be stored.
  > Make it a list first: for item in list(items)
CP126 error A child saga that the app does not run
  s.child starts an instance of its own, and the app must be told to run that saga.
  > app.orchestrate(other) beside the saga that begins it.
CP127 error An item of a map waits for an event of the saga's key
  All items of a map have the key of the saga that maps, so nobody could say whose event it is.
  > s.wait(Event, correlate=a value of the item's own), or wait in the saga that maps.
CP140 error The source of a saga cannot be read
  The compiler works on source text.
  > Ship the .py files, or write the machines to a side file when you build.
CP141 error A decorator stands between @saga and the function
  The compiler would compile the function while the program runs the wrapper.
  > Put @saga directly above async def.
CP142 error The source on disk is not the code that was loaded
  > Restart the process, so that both are the same.
CP143 error Two sagas have one name
  Records on the log name their saga; the name must be unique.
  > Give one of them another: @saga(name="...")
CP144 error The class of an event or command is incomplete
  An event says which of its fields is the key, a command also which replies it gets.
  > class Charge(Command[Charged, Declined], topic="pay.commands", key="order_id")
CP201 error A local of unknown type lives across an await
  What is alive while the saga waits is stored, and the compiler cannot tell how to store this.
  > Annotate the variable, or use it up before the await.
CP202 error A local that cannot be stored lives across an await
  While the saga waits it may move to another process; connections, locks, files, generators and functions cannot.
  > Open it inside a @step, keep only its id, or let the app provide it as a parameter.
CP203 error An exception of an unregistered type lives across an await
  It is stored as text and comes back as OpaqueError. Under a broad type, Exception, it is a warning.
  > Name its class in an except or a raise of the saga, or convert it before the await.
CP204 error A value in the middle of an expression cannot be stored
  The await stands inside a larger expression whose finished parts must be kept while the saga waits.
  > Assign its parts on separate lines.
CP205 error An argument, reply or result has a type without a codec
  > Use a pydantic model, a dataclass, an enum or a plain type.
CP206 error An operation is kept across an await
  An operation is issued when it is awaited; kept longer it would have to be stored unissued.
  > Build it where it is awaited.
CP207 error The class of a command or event cannot be told
  > Construct it inside the call, or annotate the variable that holds it.
CP208 error Two types are registered under one name
  A stored value names its type; the name must be unique.
  > Give one of them another: class X(Event, name="...")
CP209 error An undo reads a reply that does not exist
  > Give a command instance instead of a lambda over the reply.
CP210 warning Two locals share one mutable value
  ys = xs makes no copy. Both outlive an await, and a change of one shows in the other, before it and after it.
  > Copy it where that is not meant, or keep one of the two names.
CP211 warning A name that undo= captured is changed later
  The undo sees the value of the moment in which the step was issued.
  > Use another name for the later value.
CP212 warning A saga reads a mutable global, or sets a context variable
  Neither is part of the state; after a restart they are as the new process made them.
  > Pass the value as an argument, or keep it in a local.
CP301 error A local that the new code needs is missing in stored instances
  > Give it a default or a migration, or keep the old definition until its instances have ended.
CP302 error Stored instances stand in a state that is gone
  > Map the old label to a new one, or keep the old definition.
CP303 error A local changed its type and old values cannot be read
  > Only widen types, or convert the values in a migration.
CP304 error A reply that is still to come is not accepted any more
  > Keep the reply type in the command until the instances that wait have ended.
CP305 error The control structure around a state changed
  Loop positions, pending exits or the handled exception of a stored instance have no place in the new code.
  > Keep the structure around this await, or keep the old definition.
CP306 error A handler, a finally or a scope around a state changed
  > Keep them, or keep the old definition until its instances have ended.
CP307 info What follows a state changed
  Instances that stand there take the new path.
CP308 error A called saga of a stored instance does not fit
  > See the finding about the called saga.
CP310 error Live instances do not fit the new code
  > Migrate them or keep the old definition; the list says where they stand.
CP311 error A migration does not fit the two graphs it connects
  > It must name states of the old graph and give locals of the new one.
CP312 error This worker has no code for the version of an instance
  The instance is parked with everything kept, and goes on by itself under a release that can.
  > Start a worker with the code that the instance was started with, or with a migration.
CP313 error A kept definition is not the version it says
  @saga(retired="k7Q2") keeps the code of version k7Q2 unchanged: instances of that version go on with it.
  > Take the definition from version control as it was, or name the version that it is.
CP314 error A machine graph cannot be read
  Machine graphs are kept on the log under their fingerprint, and in side files; this one is not what a release wrote.
  > Start a worker of the release that wrote it: it writes what is missing.
CP321 error sagas.lock.json is missing or does not match the source
  The file holds the stable names of all states. Only `contrapas dev` and `contrapas check --update` write it.
  > Run contrapas dev, or contrapas check --update, and commit sagas.lock.json.
CP322 error Two awaits of one saga carry the same label=
  > Labels are unique within a saga: rename one.
CP323 error A retired label is named again
  A record of the old state would be read as one of the new.
  > Choose a new label.
CP324 warning A state was matched on its operation alone
  The await moved to another place of the function, and the compiler took it for the same state.
  > Look at the entry in sagas.lock.json, and give label= if it is wrong.
CP330 error A recorded call differs from the one being made
  A step that goes through its journal again made another call than the first time.
  > The step must be given a new key, or its journal dropped.
CP401 error The body is not JSON
  > The message names the byte at which reading stopped.
CP402 error A message of unknown type
  Types come from the closed list that the app declares; a name outside is never looked up or imported.
  > Declare the type in the app, or name it in the topic's mapping.
CP403 error The body does not fit its type
  > Each line says where (a JSON pointer), what was expected and what came.
CP404 error The schema of a message is newer than this worker
  The instance waits with the message as it came; the others go on.
  > Update the worker; the message is tried again by itself.
CP405 error JSON with NaN, Infinity or a repeated key
  Python's own reader would accept these and give a value that other readers do not see.
  > Send plain JSON (RFC 8259) with each key once.
CP406 error The body is nested deeper than 64 levels
  > Flatten it.
CP407 error A number does not fit into 64 bits
  > Send it as text and declare the field Decimal.
CP408 error The text is not valid UTF-8, or holds a lone surrogate or NUL
  > Encode it as UTF-8.
CP409 error A message is larger than the limit
  A record holds at most 900 kB; this is checked before anything is sent.
  > Store the content elsewhere and send its address.
CP410 error A compressed body grows beyond the limit
  > Send it uncompressed, or in parts.
CP411 error An empty value on the log lane that the owner did not write
  Only the owner of a partition removes instances; the record is written again from what is known.
  > Find out who else writes to the log lane.
CP412 error The same id came with another content
  The first one counts. A repeat with the same content is a success; with another content it is a conflict.
  > Use a new key for a new start, a new id for a new event.
CP413 error The key is missing, too long, or not the one the body names
  Keys are 1 to 200 bytes of UTF-8 without NUL and choose the partition.
  > Send the value of the key field as the record's key.
CP414 error An event waited for an instance that never came
  It was kept for the time its topic allows and is now a dead letter.
  > Start the instance, then send the event again.
CP415 error A time that cannot be one
  Year 1, year 9999 or more than a day ahead, where a timer depends on it or a service's inbox judges
  a delivery's age by it. Nothing is corrected silently.
  > Correct the clock or the field of the sender.
CP416 error Headers with control characters, or too many of them
  > At most 100 headers and 64 kB, without line breaks and control characters in names.
CP417 error The message asks for an object instead of data
  Only plain data is read: nothing received names a class to build.
  > Send the fields of the type as JSON.
CP418 error A start that is older than the saga's retention
  It is either a very late duplicate or an import of old data.
  > For an import say stale = "accept" in [tool.contrapas.topics."<topic>"].
CP419 error A record on the in lane without a framing we know
  > Send to a topic of the app, or set the headers that the wire format names.
CP420 error The schema of a message is not to be had
  The message names a schema by its id, and the registry does not know it, or no registry is configured. It is a dead letter
  with its bytes as they came.
  > Register the schema, or set registry = "https://…" in [tool.contrapas]; then contrapas dlq redrive.
CP501 error The log or server cannot be reached
  > Start it, correct the address, or use the built-in log.
CP502 error The broker may lose acknowledged records
  Replication factor, minimum in-sync replicas or unclean leader election are set so that one failure loses data.
  > Correct the settings that the message names.
CP503 error The settings of a topic do not keep what must be kept
  > The message names setting, actual and required value.
CP504 error The number of partitions is not the recorded one
  Another count would send keys to other partitions and split instances.
  > Restore the old count. To grow, start a new namespace.
CP505 error A topic is missing or belongs to somebody else
  > Nothing is created by accident: create it, or correct the name.
CP506 error The log is not the one that was recorded, or ends too early
  It was recreated, truncated or restored from an old copy.
  > Restore the log from a copy that reaches the recorded position.
CP507 error No answer in time: the outcome is unknown
  What was sent may or may not have arrived. Repeating it is safe, because it carries the same id.
  > Look first: contrapas instance describe KEY
CP508 error The broker's size limit is smaller than ours
  > Raise it to at least the size that the message names.
CP509 error A record of a former owner belongs to an unknown instance
  The time without any worker was longer than the log keeps its full history.
  > Look at the record; keep the history longer than the longest outage.
CP510 error No connector for this kind of log is installed
  > Install the extra that the message names.
CP511 error A foreign transaction holds a topic back
  > Abort it; the message names its producer and age.
CP512 error A stream is not stored durably
  > Use file storage, three replicas and sync_interval: always.
CP513 error A consumer would lose or repeat messages
  > Correct the acknowledgement time or the delivery limit.
CP514 error The database does not keep what it confirms, or its tables are old
  > The message names the setting or the migration.
CP515 warning A long transaction holds back the outbox
  > End it; the message names its pid, age and query.
CP516 error The SQLite file cannot be used
  It is locked for too long, not writable, full, damaged, newer than this release, or copied without its -wal file.
  Nothing is dropped.
  > The message says which; contrapas doctor --log URL says more.
CP517 warning The worker's clock differs from the log's
  > Synchronise the clock.
CP518 error The server is older than required
  > Update it to the version that the message names.
CP519 error A position lies below the first record that is still there
  What lay between was removed before it was read; the engine never jumps over a gap.
  > The message names both positions. Read from the floor on purpose if the gap is acceptable.
CP520 error A record is damaged
  Its checksum differs or it ends too early. Its partition stops, the others go on, and the bytes are kept.
  > Restore the record from a copy, or park the instance.
CP521 error This is another cluster, account or file than the recorded one
  > Correct the address.
CP522 info Another worker owns the partition now
  This worker drops what it had not committed; the other goes on from the log.
CP523 warning The log could not take a write; nothing was written
  The same write is tried again.
CP524 error The log has no space left
  Nothing was dropped: what was acknowledged is there, and what was not will be done when there is space.
  > Free some space on the server, then start the worker again.
CP525 warning The schema registry does not answer
  Schemas that are known already work on. Messages in one that is not known wait, in order, and go on by themselves.
  > Start the registry, or correct its address or credentials.
CP526 error The log is only read: nothing is sent
  With --read-only the topics of a cluster are followed. Nothing is produced there, no group is joined, no topic made; what
  would have to be sent is refused.
  > Leave --read-only away, or name a log at a server whose topics can be followed.
CP601 error An event that nobody emits, or that nobody takes
  Annotations of services and the machines of sagas say who emits and who takes what; here one side is missing.
  > Declare who emits it, or remove it from the command or wait. Topics that no Service uses are external and not judged.
CP602 error The consumer cannot read what the producer writes
  Within one app it cannot happen, for two classes of one name are refused (CP208); between apps each keeps its own class.
  > Make the new field optional, or deploy the consumer first.
CP603 error A participant acts on a branch that no event tells it of
  > Let the deciding service emit an event for it.
CP604 warning Reactions or sagas wait for each other in a ring
  Each brings about the next, and the last the first: it never comes to rest.
  > Break the ring, or bound it by a count or a time.
CP605 error Two services answer one command
  Both would act, and which answer counts is left to chance.
  > One owner for each command.
CP606 error A schema breaks what was written, or others that read
  User events are FULL_TRANSITIVE: every version ever registered must read the new one and be read by it.
  > Give new fields a default, keep the fields that had none; or publish the new form under another name.
CP701 error The saga can stand still for ever
  Nothing that it waits for can come, and no timer runs.
  > Give the wait a producer, or within=.
CP702 error A loop without any await
  The worker never comes out of it, and no other instance of the partition moves meanwhile.
  > Let each round wait for something, or bound the loop.
CP703 warning A step has no undo, and a step after it can fail
  Its effect would stand although the saga failed.
  > undo=… on the step, or undo=None if that is intended.
CP704 error A step after the point of no return can fail
  Nothing is undone after it, so a failure there would leave the saga half done.
  > retry=FOREVER, or move the step before the point.
CP705 error A failure that ends in nothing
  Nobody learns of it: no outcome, nothing taken back, nothing parked.
  > Return an outcome, compensate, or let the failure leave the saga.
CP706 warning Undos written by hand differ from the registered ones
  > Use undo= on the step, and await s.compensate().
CP707 warning The saga returns normally while effects of a failed attempt stand
  A handled failure keeps the registered undos; a normal return drops them, and the effects stay for ever.
  > await s.compensate() before the return, or let the failure leave the function.
CP708 warning An undo can fail and is not tried again
  > retry= on the undo step.
CP709 error An undo needs a reply that may never come
  After a timeout the step may have happened, and its undo cannot be built without the reply.
  > Undo by a business key, which is known before the step, instead of the reply's id.
CP710 warning An unknown outcome is treated as a failure
  The same effect is asked for again although the first may have happened.
  > Test why.unknown, undo first, or use retry= under the same key.
CP711 info A repeated event with a new id changes the outcome
  The engine drops repetitions of one id; a second event with the same content is a second event.
CP712 warning A wait without an end
  > within=… on the wait, FOREVER if that is meant, or a deadline for the saga.
CP713 warning A loop without bound or pause
  The same operation is asked for with the same arguments, as fast as it answers.
  > A bound, or s.sleep between the rounds.
CP714 warning A state, handler or case that is never reached
  The checker has tried every end of every operation, and none leads here.
  > Remove it, or declare the failure that it handles.
CP715 info An event that no state ahead takes
  It would be refused, recorded as a no-op, or kept for nothing.
CP716 error Two parallel branches wait for one event
  Which of them gets it would be left to chance.
  > Wait once and share the result, or use correlate=.
CP717 info The outcome depends on which of two events comes first
  They come from different topics, between which there is no order.
CP718 warning A cancelled instance may not end
  > Bound what runs in except and finally.
CP719 error A correlation value is unbound, or an awaited event travels under another key
  How many partitions its topic has does not matter: every event is brought into the partition of its instance.
  > Bind the value before the wait, or say correlate=.
CP720 info The state grows in a loop
  The whole state is written with every transition.
  The record limit is 900 kB.
  > Keep only what later rounds need.
CP721 error An observed saga holds a local step with effects
  A saga that only observes sends nothing and does nothing; no event shows that this step happened.
  > @step(observe=True) if it may run there, or orchestrate the saga.
CP722 error A sensitive value in a key, header, label or log text
  > Use an id instead.
CP723 warning A side effect outside of a step
  Code between two awaits may run again after a crash; an HTTP call, a query or a written file would happen twice.
  > Move it into a @step.
CP724 warning A blocking call between awaits
  It stops every instance of the partition while it lasts.
  > Move it into a @step; for waiting use s.sleep.
CP725 error A command that the saga takes is not answered
  > Reply on every path.
CP726 warning An event is both emitted and returned
  It would be published twice.
  > One of the two.
CP727 warning A wait in a loop may take an answer to an earlier round
  > correlate= on the round.
CP728 warning An undo takes back another step's effect, or the order of undos comes from a set
  > Let each step take back itself; iterate over a list.
CP730 warning A command is answered twice on one path
  > Reply once.
CP731 warning An operation begun in a loop is never met again
  > Await its handle, or cancel it.
CP732 warning A lock is taken inside another lock
  > Take both at once: they are then taken in sorted order.
CP790 error The saga has too many configurations to explore
  > Split it into called sagas or children.
CP801 error The configuration is not understood
  An unknown key, a value of the wrong type, a duplicate, or two sources that contradict each other. All at once.
  > Correct the places named; contrapas COMMAND --help lists what exists.
CP802 error A secret stands in a file that others can read
  > Put it into the environment, or chmod 600.
CP803 error The connection is not protected
  > Turn certificate checks on, and do not send passwords in plain text.
CP804 error Two apps share what must belong to one
  > One group and one namespace for each app; the SQLite file on a local disk.
CP805 error Duplicates are remembered for a shorter time than they can come
  What was handled and forgotten would be handled again. The message shows the sum.
  > Raise inbox= of the store above retries plus the longest outage; that is outage of [tool.contrapas], 7 days unless told.
CP806 error Times that contradict each other
  > The session must be at least three heartbeats; the message shows the numbers.
CP807 error A position that is none, or where nothing is
  > start, end, 1041, -100, +5, @-1h, @2026-11-20, 2:1041; the message names floor and end.
CP808 error A selector or --where that is not understood
  It is: field, operator (= != < <= > >= ~), literal; joined by `and`. Never an expression.
  > --where 'state=ReserveStock and error~"503" and age>1h'
CP809 error There is no app of this name
  MODULE:APP is a dotted module or a file, then the name of the App object in it.
  > contrapas check shop:app, or sagas/order/saga.py:app
CP810 error The user's module cannot be imported
  > Correct the line that is shown.
CP811 error Workers are active
  > Stop them, or name the group, and repeat with --yes.
CP812 error Nothing was done: this needs --yes
  > Read the plan, then repeat with --yes.
CP813 error There is no such instance, topic, code or file
  > The list commands show what exists: contrapas ls, contrapas topic list.
CP814 error An unknown command or option, or a wrong argument
  > contrapas COMMAND --help
CP815 error The instance is not in a state that allows this
  > contrapas instance describe KEY
CP816 error A file of the user stands in the way
  > Move it, or run in another directory.
CP817 error The log is not named, or holds no such namespace
  > --log sqlite:///PATH, CONTRAPAS_LOG, or log = in [tool.contrapas].
CP818 error A row of an input file cannot be used
  > The message names the row and the column.
CP821 error Not authenticated
  > Send the token that the server printed at its start: Authorization: Bearer …
CP822 error A permission is missing on the broker or database
  > The message names who, what and where.
CP823 error The namespace of the request is not the caller's
  > Use the credentials of that namespace.
CP824 error The request comes from a foreign page or to a foreign host name
  > Call the server by its own name; browsers of other sites are refused.
CP825 error The request is too large, too slow or has too many parts
  > The limit stands in the message.
CP826 error The page cursor was changed
  > Start at the first page.
CP827 error The address cannot be served without authentication
  > Bind 127.0.0.1, or mount the app behind your own authentication.
CP828 error The port is taken
  > --port with another number; 0 takes any free one.
CP829 error The saga declines the command: it keeps too many already
  A saga keeps 100 commands and events, or 256 kB, for the states ahead.
  > Ask again later, under the same Idempotency-Key or another.
CP831 error A link is not genuine
  Links are signed; this one was changed on its way, or signed with another secret.
  > Open the link as it was sent; all workers and doors need one CONTRAPAS_LINK_SECRET.
CP832 error A link has expired
  > Have the saga send another one: s.link(event, within="30d").
CP833 error Links need a secret
  s.link signs its answers, so that nobody can make or change one.
  > Set CONTRAPAS_LINK_SECRET to 16 characters or more, the same for all workers and doors.
CP841 error A step failed after its last attempt
  > The outcome is unknown to the saga; contrapas instance describe KEY shows the last error.
CP842 error A step did not end in its time
  > Raise timeout=, or find out what it waits for; its outcome is unknown.
CP843 error A step returned what cannot be stored
  > Return a model, a plain value or a container of these, below the size limit.
CP844 error A step or an input ended its worker again and again
  It was parked so that the other instances can go on.
  > Correct the step, then contrapas instance retry KEY
CP845 error An undo keeps failing
  The instance is parked; it is never reported as compensated while an effect stands.
  > Correct the cause, then contrapas instance retry KEY
CP846 error An instance grew beyond the record limit
  > Keep less in its locals; contrapas instance describe KEY shows the sizes.
CP847 error An error in the saga's own code
  The transition was not committed and nothing was undone; the instance waits with its input.
  > Correct the line that is shown, deploy, then contrapas instance retry KEY
CP848 error A second instance waits for a correlation value that is taken
  > Use a value of its own for each instance.
CP850 error A value given to a step, wait or retry makes no sense
  > The message names the value: durations look like 30s, 2h30m; attempts are at least 1.
CP900 error A bug in contrapas: a machine or record that cannot be
  > Please report it with the text below.
CP901 error A bug in contrapas
  Something happened that cannot happen by what you wrote.
  > Please report it with the text below.
"""
