-- KEYS: aigc:job:<id>
-- ARGV: id, chunk, token, completed, failed, bytes, final state (empty for a chunk)
-- Answer: {1 accepted | 0 lease lost, 1 publish one ticket | 0}
local key, id, chunk, at = KEYS[1], ARGV[1], tonumber(ARGV[2]), now()
if held(key, chunk) ~= ARGV[3] then return {0, 0} end
drop(key, chunk)
redis.call('HSET', key, 'waiting_for', '')
if chunk == -1 then
  redis.call('HSET', key, 'state', ARGV[7], 'finished_at', at, 'tickets', 0)
  redis.call('SREM', 'aigc:live', id)
  redis.call('DEL', key .. ':again', key .. ':tries', key .. ':leases', key .. ':expiry')
  emit('job.' .. ARGV[7], id, at, cjson.encode({completed = number(key, 'completed'), failed = number(key, 'failed')}))
  return {1, 0}
end
if redis.call('SETBIT', key .. ':done', chunk, 1) == 0 then
  redis.call('HINCRBY', key, 'done', 1)
  redis.call('HINCRBY', key, 'completed', ARGV[4])
  redis.call('HINCRBY', key, 'failed', ARGV[5])
  redis.call('HINCRBY', key, 'bytes', ARGV[6])
end
emit('chunk.completed', id, at, cjson.encode({chunk = chunk, completed = number(key, 'completed'), total = number(key, 'total')}))
return {1, next_ticket(key, at)}
