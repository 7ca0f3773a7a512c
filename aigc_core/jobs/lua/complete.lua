-- KEYS: none
-- ARGV: id, chunk, token, completed, failed, bytes, final state (empty for a chunk)
-- Answer: {1 accepted | 0 lease lost, 1 a ticket would find more | 0}
local job, chunk, at = read(ARGV[1]), tonumber(ARGV[2]), now()
if not job then return {0, 0} end
if held(job, chunk) ~= ARGV[3] then return remembered(job, chunk, ARGV[3]) or {0, more(job.kind)} end
drop(job, chunk)
redis.call('HSET', job.key, 'waiting_for', '')
if chunk == -1 then
  finish(job, ARGV[7], at)
else
  redis.call('SETBIT', job.key .. ':done', chunk, 1)
  redis.call('HINCRBY', job.key, 'done', 1)
  local completed = redis.call('HINCRBY', job.key, 'completed', ARGV[4])
  redis.call('HINCRBY', job.key, 'failed', ARGV[5])
  redis.call('HINCRBY', job.key, 'bytes', ARGV[6])
  redis.call('HINCRBY', 'aigc:team:' .. job.team, 'queued', 0 - tonumber(ARGV[4]) - tonumber(ARGV[5]))
  emit('chunk.completed', job.id, at, {chunk = chunk, completed = completed, total = job.total})
  settle(job.id, at)
end
return remember(job, chunk, ARGV[3], {1, more(job.kind)})
