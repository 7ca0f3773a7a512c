-- KEYS: aigc:job:<id>
-- ARGV: id, chunk, token, delay seconds, waiting for (empty: nothing)
-- Answer: 1 publish one ticket | 0
local key, id, chunk, at = KEYS[1], ARGV[1], tonumber(ARGV[2]), now()
if held(key, chunk) ~= ARGV[3] then return 0 end
drop(key, chunk)
if chunk ~= -1 then redis.call('ZADD', key .. ':again', at, chunk) end
if tonumber(ARGV[4]) > 0 then
  redis.call('HSET', key, 'not_before', at + tonumber(ARGV[4]))
  if redis.call('HGET', key, 'waiting_for') ~= ARGV[5] then
    redis.call('HSET', key, 'waiting_for', ARGV[5])
    emit('job.waiting', id, at, cjson.encode({waiting_for = ARGV[5]}))
  end
end
return next_ticket(key, at)
