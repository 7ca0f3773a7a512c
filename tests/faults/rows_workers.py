"""Rows whose fault is a worker, a message or a producer."""

import random
import signal
import time

from aigc_core.jobs.ledger import LOSSES_MAX
from faults.matrix import Flow, Seen
from faults.plant import LEASE_SECONDS, MODEL, Orphans, Plant, until
from faults.verify import problems


def worker_killed(plant: Plant, n: int) -> Seen:
    """kill -9 of a worker at a random moment; it is started again at once."""
    flow, recoveries, orphaned = Flow(plant), [], 0
    for _ in range(n):
        flow.tend()
        time.sleep(random.uniform(0, 0.4))
        name = random.choice("ab")
        orphans = plant.kill(name)
        plant.worker(name)
        orphaned += len(orphans.chunks)
        recoveries += plant.recovered(orphans)
        plant.wait_ready(name)
    found = flow.finish()
    redone = plant.losses()
    figure = f"{orphaned} chunks in flight, {redone} redone"
    return Seen(n=n, figure=figure, ok=redone <= orphaned, problems=found, recoveries=recoveries)


def ticket_lost_in_socket(plant: Plant, n: int) -> Seen:
    """A stopped worker is sent the tickets, and is killed: Redis has given them away, nobody has them."""
    found, recoveries, vanished = [], [], 0
    plant.end("b")
    for _ in range(n):
        plant.wait_ready("a")
        plant.end("beat")
        plant.signal("a", signal.SIGSTOP)
        job_id = plant.order(256)
        plant.publish_tickets(1)
        vanished += plant.client.llen("generation") == 0
        plant.kill("a")
        plant.worker("a")
        plant.beat("beat")
        plant.wait_ready("a")
        ready = time.time()
        plant.wait_final(job_id, 60)
        recoveries.append(time.time() - ready)
        found += problems(plant, job_id)
    return Seen(
        n=n, figure=f"{vanished} tickets vanished, {n} jobs done", ok=vanished > 0, problems=found, recoveries=recoveries
    )  # fmt: skip


def zombie(plant: Plant, n: int) -> Seen:
    """A worker with leases is stopped until others have done its work, and goes on then."""
    found, refused, held = [], 0, 0
    for _ in range(n):
        job_id = plant.order(1_024)
        plant.wait_chunks(job_id, 1)
        until(lambda: plant.leases_of("a"), 20, "worker a holds a lease")
        plant.signal("a", signal.SIGSTOP)
        leases = plant.leases_of("a")
        stopped = time.monotonic()
        plant.wait_final(job_id, 60)
        until(lambda since=stopped: time.monotonic() - since > 3 * LEASE_SECONDS, 60, "three leases' time")
        found += problems(plant, job_id)
        before = plant.log_count("a", '"result": "lost"')
        plant.signal("a", signal.SIGCONT)
        if leases:
            held += len(leases)
            wanted = before + len(leases)
            until(lambda w=wanted: plant.log_count("a", '"result": "lost"') >= w, 30, "the zombie is refused")
            refused += plant.log_count("a", '"result": "lost"') - before
        found += problems(plant, job_id)
    return Seen(n=n, figure=f"{refused} of {held} stale leases refused", ok=refused >= held > 0, problems=found)


def killed_at(point: str, plant: Plant, n: int, *, action: str = "kill") -> tuple[list[Orphans], Flow]:
    """Worker a ends itself at a failpoint n times, while b works on."""
    flow, deaths = Flow(plant), []
    for _ in range(n):
        plant.worker("a", AIGC_FAILPOINTS=f"{point}:{action}")

        def dead() -> bool:
            flow.tend()
            return not plant.alive("a")

        until(dead, 60, f"worker a dies at {point}")
        deaths.append(Orphans(at=time.time(), chunks=plant.leases_of("a")))
    return deaths, flow


def crash_between_put_and_commit(plant: Plant, n: int) -> Seen:
    """Pictures and result lines are in S3, the ledger does not know: the chunk is made again, with the same bytes."""
    deaths, flow = killed_at("after_results_put", plant, n)
    recoveries = []
    for number, death in enumerate(deaths):  # a chunk that the next one took and died of counts from then
        later = frozenset().union(*(other.chunks for other in deaths[number + 1 :]))
        recoveries += plant.recovered(Orphans(at=death.at, chunks=death.chunks - later))
    orphaned = sum(len(death.chunks) for death in deaths)
    figure, found = f"{orphaned} chunks made again, equal bytes", flow.finish()
    return Seen(n=n, figure=figure, ok=orphaned >= n, problems=found, recoveries=recoveries)


def crash_between_commit_and_ticket(plant: Plant, n: int) -> Seen:
    """The chunk is committed, the next ticket is never sent: the reaper's next tick does it."""
    deaths, flow = killed_at("after_complete", plant, n)
    found = flow.finish()
    gaps = []
    for death in deaths:
        after = [event.at for event in plant.events if event.type == "chunk.completed" and event.at > death.at]
        gaps += [after[0] - death.at] if after else []
    return Seen(n=n, figure=f"next commit after {max(gaps, default=0):.2f} s at most", problems=found, recoveries=gaps)


def told_to_end(plant: Plant, n: int) -> Seen:
    """SIGTERM to a busy worker: it finishes what it has and ends."""
    flow, seconds = Flow(plant), []
    for number in range(n):
        flow.tend()
        until(lambda: plant.leases_of("a"), 30, "worker a holds a lease")
        plant.signal("a", (signal.SIGTERM, signal.SIGTERM)[number % 2])
        started = time.monotonic()
        until(lambda: flow.tend() and not plant.alive("a"), 60, "the worker ends")
        seconds.append(time.monotonic() - started)
        plant.worker("a")
        plant.wait_ready("a")
    found = flow.finish()
    figure = f"exits within {max(seconds):.1f} s, {plant.losses()} leases left to run out"
    return Seen(n=n, figure=figure, ok=max(seconds) <= 20 and plant.losses() == 0, problems=found)


def poison_chunk(plant: Plant, n: int) -> Seen:
    """Every worker that takes the job's one chunk dies; after 5 losses it is given up, and the next job is done."""
    exact, reasons = 0, 0
    plant.end("b")
    for _ in range(n):
        job_id = plant.order(64)
        for _ in range(LOSSES_MAX):
            plant.worker("a", AIGC_FAILPOINTS="after_images_put:kill")
            until(lambda: not plant.alive("a"), 60, "the poison kills")
            until(lambda j=job_id: not plant.client.exists(f"aigc:job:{j}:leases") or reap(plant), 30, "the lease runs out")
        plant.worker("a")
        plant.wait_final(job_id, 60)
        job = plant.ledger.job(job_id)
        letters = plant.ledger.dead_letters(job_id)
        exact += job.attempts_lost == LOSSES_MAX and job.state == "failed" and len(letters) == 1
        reasons += "vanished 5 times" in job.last_error
    after = plant.order(256)
    plant.wait_final(after, 60)
    figure = f"{exact} given up after exactly {LOSSES_MAX} losses"
    return Seen(n=n, figure=figure, ok=exact == reasons == n, problems=problems(plant, after))


def reap(plant: Plant) -> bool:
    """A pass of the reaper where no worker is left to do it; always false."""
    plant.ledger.reap()
    return False


def files_exhausted(plant: Plant, n: int) -> Seen:
    """A worker may open no further file for a while; then it may again."""
    flow, recoveries, alive = Flow(plant, count=4_096), [], 0
    for _ in range(n):
        flow.tend()
        usual = 1_024
        plant.file_limit("a", plant.open_files("a"))
        end = time.monotonic() + 4
        until(lambda e=end: flow.tend() and time.monotonic() > e, 60, "the time without files")
        plant.file_limit("a", usual)
        if not plant.alive("a"):
            plant.worker("a")
        since = time.time()

        def works() -> bool:
            flow.tend()
            return bool(plant.leases_of("a"))

        until(works, 60, "worker a takes work again")
        recoveries.append(time.time() - since)
        alive += plant.alive("a")
    return Seen(n=n, figure=f"{alive} of {n} survived it", problems=flow.finish(), recoveries=recoveries)


def tickets_repeated(plant: Plant, n: int) -> Seen:
    """Ten tickets for each chunk: never more leases than the window."""
    window, most, found = 2, 0, []
    for _ in range(n):
        job_id = plant.order(1_024, window=window)
        plant.publish_tickets(160)

        def ended(job_id: str = job_id) -> bool:
            nonlocal most
            most = max(most, int(plant.client.hlen(f"aigc:job:{job_id}:leases")))
            return plant.ledger.job(job_id).state.is_final

        until(ended, 60, "the job ends")
        found += problems(plant, job_id)
    return Seen(n=n, figure=f"{most} leases at once, window {window}", ok=most <= window, problems=found)


def reaper_killed(plant: Plant, n: int) -> Seen:
    """Reapers die between their steps while another runs: every loss is counted once."""
    flow = Flow(plant)
    for number in range(n):
        point = ("after_reap", "after_reap_tickets")[number % 2]
        plant.worker("a", AIGC_FAILPOINTS=f"{point}:kill")
        until(lambda: flow.tend() and not plant.alive("a"), 60, f"the reaper dies {point}")
        plant.ledger.reap()
    found = flow.finish()
    lost = [(e.job_id, e.facts["chunk"], e.facts["losses"]) for e in plant.read_events() if e.type == "chunk.lost"]
    counted = sum(plant.ledger.job(job_id).attempts_lost for job_id in flow.jobs)
    ok = len(lost) == len(set(lost)) == counted
    return Seen(n=n, figure=f"{len(set(lost))} losses, counted {counted} times", ok=ok, problems=found)


ORDER = f"""
from workers.producer import Producer
import sys
print(Producer.from_env().generate(model={MODEL!r}, version=1, count=256, chunk_items=64, idempotency_key="KEY"))
"""


def producer_dies(plant: Plant, n: int) -> Seen:
    """A producer dies in the middle of a submit; the same order is made again."""
    found, one = [], 0
    jobs_before = plant.client.zcard("aigc:jobs")
    for number in range(n):
        point = ("after_spec_put", "after_submit", "after_submit_tickets")[number % 3]
        code = ORDER.replace("KEY", f"row14-{number}")
        done = plant.run_code(code, check=False, AIGC_FAILPOINTS=f"{point}:kill")
        one += done.returncode == -signal.SIGKILL
        job_id = plant.run_code(code).stdout.strip()
        plant.wait_final(job_id, 60)
        found += problems(plant, job_id)
    made = plant.client.zcard("aigc:jobs") - jobs_before
    return Seen(n=n, figure=f"{n} orders, {made} jobs", ok=made == one == n, problems=found)
