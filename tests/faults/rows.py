"""The fault matrix: every row that one machine can inject, and the reason for each of the others."""

from functools import partial

from faults import rows_models, rows_redis, rows_s3, rows_workers
from faults.matrix import NotRun, Row

ROWS = (
    Row(
        number=1, fault="worker process killed (the pool is threads: no child)", required="every chunk redone once, R ≤ 5 s",
        run=rows_workers.worker_killed, n=30, n_full=300, n_test=4, recovery_seconds_max=5,
    ),
    Row(
        number=3, fault="ticket lost in a socket", required="all jobs done, R ≤ 5 s",
        run=rows_workers.ticket_lost_in_socket, n=15, n_full=50, n_test=2, recovery_seconds_max=5,
    ),
    Row(
        number=4, fault="zombie worker", required="every stale lease refused, bytes unchanged",
        run=rows_workers.zombie, n=10, n_full=100, n_test=1,
    ),
    Row(
        number=5, fault="crash between S3 put and commit", required="redone with equal bytes, R ≤ 5 s",
        run=rows_workers.crash_between_put_and_commit, n=20, n_full=100, n_test=2, recovery_seconds_max=5,
    ),
    Row(
        number=6, fault="crash between commit and next ticket", required="next commit within 2 ticks + a chunk, 2 s",
        run=rows_workers.crash_between_commit_and_ticket, n=20, n_full=100, n_test=2, recovery_seconds_max=2,
    ),
    Row(
        number=7, fault="SIGTERM while busy", required="exit ≤ 20 s, no lease left to run out",
        run=rows_workers.told_to_end, n=10, n_full=100,
    ),
    Row(
        number=8, fault="poison chunk", required="given up after exactly 5 losses, with the reason",
        run=rows_workers.poison_chunk, n=1, n_full=5,
    ),
    Row(
        number=11, fault="no file can be opened", required="Z, works again within 15 s",
        run=rows_workers.files_exhausted, n=5, n_full=20, n_test=1, recovery_seconds_max=15,
    ),
    Row(
        number=12, fault="every ticket ten times", required="leases ≤ window",
        run=rows_workers.tickets_repeated, n=5, n_full=20,
    ),
    Row(
        number=13, fault="reaper killed between its steps, two reapers", required="every loss counted once",
        run=rows_workers.reaper_killed, n=20, n_full=200,
    ),
    Row(
        number=14, fault="producer dies in a submit", required="one job for an order, complete",
        run=rows_workers.producer_dies, n=9, n_full=100,
    ),
    Row(
        number=15, fault="two beats, a clock that jumps an hour", required="one retraining for a slot",
        run=rows_models.schedule_slots, n=300, n_full=1_000, n_test=50,
    ),
    Row(
        number=16, fault="Redis killed and started", required="processes survive, R ≤ 5 s",
        run=rows_redis.crash, n=10, n_full=50, recovery_seconds_max=5,
    ),
    Row(
        number=17, fault="Redis loses its last second", required="Z, no token twice",
        run=rows_redis.power_loss, n=5, n_full=50,
    ),
    Row(
        number=18, fault="broker wiped", required="R ≤ 2 ticks + a chunk, 2 s",
        run=rows_redis.broker_wiped, n=10, n_full=50, recovery_seconds_max=2,
    ),
    Row(
        number=19, fault="Redis frozen for 12 s (full: 30 s)", required="clear error ≤ 30 s, R ≤ 5 s",
        run=partial(rows_redis.frozen, seconds=12), n=2, n_full=5, n_test=1, recovery_seconds_max=5,
    ),
    Row(
        number=20, fault="half-open connections", required="R ≤ 25 s",
        run=rows_redis.hole, n=2, n_full=10, recovery_seconds_max=25,
    ),
    Row(
        number=21, fault="connections reset every 2 s", required="worker lives, no file leaks, R ≤ 5 s",
        run=rows_redis.reset_storm, n=10, n_full=30, recovery_seconds_max=5,
    ),
    Row(
        number=22, fault="Redis 100 ms away", required="≥ 80 % of the rate",
        run=rows_redis.slow, n=2, n_full=5, n_test=1,
    ),
    Row(
        number=23, fault="reply of a move lost", required="counters exact",
        run=rows_redis.reply_lost, n=60, n_full=500,
    ),
    Row(
        number=24, fault="Redis full", required="orders refused, processes live, R ≤ 10 s",
        run=rows_redis.full, n=2, n_full=10, recovery_seconds_max=10,
    ),
    Row(
        number=26, fault="SCRIPT FLUSH", required="no attempt spent",
        run=rows_redis.scripts_flushed, n=100, n_full=500, n_test=30,
    ),
    Row(
        number=28, fault="model server away for 10 s", required="no attempt spent, R ≤ 5 s + the job's rest of 5 s",
        run=rows_models.serving_killed, n=2, n_full=10, recovery_seconds_max=10,
    ),
    Row(
        number=29, fault="model server frozen", required="calls end at their deadline",
        run=rows_models.serving_frozen, n=2, n_full=10,
    ),
    Row(
        number=32, fault="new version in the middle of a job", required="all pictures of the pinned version",
        run=rows_models.model_swapped, n=3, n_full=10,
    ),
    Row(
        number=33, fault="publish killed around its rename", required="retry finishes it, no partial load",
        run=rows_models.export_killed, n=6, n_full=50,
    ),
    Row(
        number=34, fault="training worker and child killed", required="resumed, one version, ≤ a checkpoint's steps lost",
        run=rows_models.training_killed, n=4, n_full=4, n_test=1,
    ),
    Row(
        number=35, fault="503 SlowDown to 20 % of puts", required="≥ 60 % of the rate, none dead",
        run=rows_s3.slow_down, n=2, n_full=10,
    ),
    Row(
        number=36, fault="put stored, reply lost", required="counted once",
        run=rows_s3.reply_lost, n=100, n_full=500,
    ),
    Row(
        number=37, fault="S3 away for 20 s", required="no attempt spent, R ≤ 30 s",
        run=rows_s3.away, n=2, n_full=10, recovery_seconds_max=30,
    ),
    Row(
        number=38, fault="body damaged on its way", required="every one refused, no bad object",
        run=rows_s3.damaged, n=10, n_full=50,
    ),
)  # fmt: skip

NOT_RUN = (
    NotRun(2, "worker's process group killed", "the same as row 1 here; `faults.kill_loop` does it round after round"),
    NotRun(9, "segmentation fault", "ends the process as row 8 does"),
    NotRun(10, "hang in native code", "a pool of threads has no hard limit; calls end at their deadlines, row 29"),
    NotRun(25, "Redis's disk full", "needs the right to mount a small file system"),
    NotRun(27, "fail-over with lost writes", "no replica is part of the installation; the loss itself is row 17"),
    NotRun(30, "model server overloaded", "there is no circuit breaker: a job rests 5 s, as in row 28"),
    NotRun(31, "bad output of a model", "needs no process: tests/unit/serving and tests/unit/generation have it"),
    NotRun(39, "other bytes for one key", "objects are not put conditionally: equal bytes are the promise, row 5"),
    NotRun(40, "worker's disk full, clocks apart", "needs a mount; leases know the clock of Redis alone"),
)
