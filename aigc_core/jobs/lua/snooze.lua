-- KEYS: none
-- ARGV: id, chunk, token, delay seconds, waiting for (empty: nothing)
-- Answer: {1 handed back | 0 lease lost, 1 a ticket would find more | 0}
local job, chunk, at = read(ARGV[1]), tonumber(ARGV[2]), now()
if not job then return {0, 0} end
if held(job, chunk) ~= ARGV[3] then return remembered(job, chunk, ARGV[3]) or {0, more(job.kind)} end
drop(job, chunk)
if chunk ~= -1 then redis.call('ZADD', job.key .. ':again', at, chunk) end
if tonumber(ARGV[4]) > 0 then
  redis.call('HSET', job.key, 'not_before', string.format('%.6f', at + tonumber(ARGV[4])))
  if redis.call('HGET', job.key, 'waiting_for') ~= ARGV[5] then
    redis.call('HSET', job.key, 'waiting_for', ARGV[5])
    emit('job.waiting', job.id, at, {waiting_for = ARGV[5]})
  end
end
settle(job.id, at)
return remember(job, chunk, ARGV[3], {1, more(job.kind)})
