-- KEYS: none
-- ARGV: id, 1 pause | 0 resume, who, why
-- Answer: nil no such job | {1 changed | 0 as it was, or final, 1 a ticket would find more | 0}
local job, at = read(ARGV[1]), now()
if not job then return nil end
local wanted = ARGV[2] == '1'
if FINAL[job.state] or job.paused == wanted then return {0, 0} end
redis.call('HSET', job.key, 'paused', ARGV[2])
audit(wanted and 'pause' or 'resume', job.id, at, ARGV[3], ARGV[4], job.paused and 'paused' or job.state, wanted and 'paused' or job.state)
emit(wanted and 'job.paused' or 'job.resumed', job.id, at, {by = ARGV[3]})
settle(job.id, at)
return {1, more(job.kind)}
