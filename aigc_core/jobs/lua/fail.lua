-- KEYS: aigc:job:<id>
-- ARGV: id, chunk, token, error text, delay seconds, fatal (1 | 0), errors at most
-- Answer: {retried | discarded | aborted | lost, 1 publish one ticket | 0}
local key, id, chunk, at = KEYS[1], ARGV[1], tonumber(ARGV[2]), now()
if held(key, chunk) ~= ARGV[3] then return {'lost', 0} end
drop(key, chunk)
local errors, losses = string.match(redis.call('HGET', key .. ':tries', chunk) or '0 0', '(%d+) (%d+)')
errors = tonumber(errors) + 1
redis.call('HSET', key .. ':tries', chunk, errors .. ' ' .. losses)
redis.call('HSET', key, 'last_error', ARGV[4])
redis.call('HINCRBY', key, 'attempts_error', 1)
emit('chunk.failed', id, at, cjson.encode({chunk = chunk, attempt = errors + tonumber(losses), error = ARGV[4]}))
local answer = 'retried'
if ARGV[6] == '1' or errors >= tonumber(ARGV[7]) then
  discard(key, id, chunk, at, ARGV[4])
  answer = 'discarded'
  if ARGV[6] == '1' then
    redis.call('HSET', key, 'abort', 1)
    answer = 'aborted'
  end
else
  redis.call('ZADD', key .. ':again', at + tonumber(ARGV[5]), chunk)
end
if redis.call('SISMEMBER', 'aigc:live', id) == 0 then return {answer, 0} end
return {answer, next_ticket(key, at)}
