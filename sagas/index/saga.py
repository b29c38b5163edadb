"""A bucket of documents: a thousand of them, fifty at a time, a hundred a second; what fails is told, not fatal."""

from __future__ import annotations

from pydantic import BaseModel

from contrapas import App, Event, Failed, Retry, Saga, saga, step


class Doc(BaseModel):
    """One document of a bucket."""

    url: str


class IndexRequested(Event, topic="index.events", key="job_id"):
    job_id: str
    bucket: str


class IndexFinished(Event, topic="index.events", key="job_id"):
    job_id: str
    indexed: int
    failed: tuple[str, ...]


@step(undo=None)
async def list_docs(bucket: str) -> list[Doc]:
    """What is in the bucket."""
    return [Doc(url=f"{bucket}/{n}") for n in range(1000)]


@step(undo=None, retry=Retry(5, backoff="1s..1m"), timeout="30s")
def embed(doc: Doc) -> int:  # plain def: runs in a thread
    """A stand-in for the model: the length of the address."""
    return len(doc.url)


@saga
async def index_bucket(s: Saga, job: IndexRequested) -> IndexFinished:
    docs = await list_docs(job.bucket)
    results = await s.map(embed, docs, concurrency=50, rate="100/s", on_error="collect")
    bad = tuple([r.reason for r in results if isinstance(r, Failed)])
    return IndexFinished(job_id=job.job_id, indexed=len(results) - len(bad), failed=bad)


app = App("index")
app.orchestrate(index_bucket)
