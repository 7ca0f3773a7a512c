-- KEYS: none
-- ARGV: id, hard (1: chunks in work stop at their next renewal | 0: they are finished), who, why
-- Answer: nil no such job | 1 a ticket would find more | 0
local job, at = read(ARGV[1]), now()
if not job then return nil end
if FINAL[job.state] then return 0 end
if job.stop == '' then
  -- A cancelled job rests for nobody: what is left is to finalise it.
  redis.call('HSET', job.key, 'stop', 'cancelled', 'hard', ARGV[2], 'not_before', 0)
  audit('cancel', job.id, at, ARGV[3], ARGV[4], job.state, ARGV[2] == '1' and 'hard' or 'soft')
  emit('job.cancel_requested', job.id, at, {hard = ARGV[2] == '1'})
elseif ARGV[2] == '1' and not job.hard then
  redis.call('HSET', job.key, 'hard', 1)
  audit('cancel', job.id, at, ARGV[3], ARGV[4], 'soft', 'hard')
end
settle(job.id, at)
return more(job.kind)
