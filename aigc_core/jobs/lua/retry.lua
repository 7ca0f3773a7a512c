-- KEYS: none
-- ARGV: id, fingerprint (empty: all), chunks per second (0: all at once), 1 dry run | 0, who, why, seconds to a new expiry
-- Answer: nil no such job | {-1 cancelled or expired, 0, 0} | {chunks, items, 1 a ticket would find more | 0}
local job, at = read(ARGV[1]), now()
if not job then return nil end
local rate, chunks, items = tonumber(ARGV[3]), 0, 0
local stop = job.stop
local called_off = stop == 'cancelled' or stop == 'expired'
local dead = called_off and {} or redis.call('HGETALL', job.key .. ':dead')
local chosen = {}
for i = 1, #dead, 2 do
  if ARGV[2] == '' or string.match(dead[i + 1], '^(%S+)') == ARGV[2] then
    chosen[#chosen + 1] = tonumber(dead[i])
    items = items + items_of(job, tonumber(dead[i]))
  end
end
table.sort(chosen)
-- A job whose papers could not be put together ends failed with all that it made; they are tried again, whatever ended it.
if FINAL[job.state] and redis.call('HGET', job.key, 'papers') == 'failed' and #chosen == 0 and ARGV[4] == '0' then
  redis.call('HDEL', job.key, 'papers', 'finished_at')
  redis.call('HDEL', job.key .. ':tries', -1)
  redis.call('HSET', job.key, 'state', 'running', 'not_before', 0)
  local open = job.total - redis.call('HINCRBY', job.key, 'completed', 0) - redis.call('HINCRBY', job.key, 'failed', 0)
  redis.call('HINCRBY', 'aigc:team:' .. job.team, 'queued', open)
  redis.call('SADD', 'aigc:live', job.id)
  redis.call('ZREM', 'aigc:final', job.id)
  audit('retry', job.id, at, ARGV[5], ARGV[6], job.state, 'papers')
  emit('job.retried', job.id, at, {chunks = 0, items = 0})
  settle(job.id, at)
  return {0, 0, more(job.kind)}
end
if called_off then return {-1, 0, 0} end
if ARGV[4] == '1' or #chosen == 0 then return {#chosen, items, 0} end
for i, chunk in ipairs(chosen) do
  redis.call('HDEL', job.key .. ':dead', chunk)
  redis.call('HDEL', job.key .. ':tries', chunk)
  redis.call('ZADD', job.key .. ':again', rate > 0 and at + (i - 1) / rate or at, chunk)
end
redis.call('HINCRBY', job.key, 'discarded', 0 - #chosen)
redis.call('HINCRBY', job.key, 'failed', 0 - items)
redis.call('HINCRBY', 'aigc:team:' .. job.team, 'queued', items)
if redis.call('EXISTS', job.key .. ':dead') == 0 then redis.call('SREM', 'aigc:dead', job.id) end
-- Papers that somebody puts together now would tell of the job as it was: that lease is lost, whenever the job ends again.
if held(job, -1) then drop(job, -1) end
redis.call('HDEL', job.key .. ':tries', -1)
local state = job.state
if FINAL[state] then
  -- What an aborted job had not begun is open again too.
  local open = job.total - redis.call('HINCRBY', job.key, 'completed', 0) - redis.call('HINCRBY', job.key, 'failed', 0) - items
  redis.call('HINCRBY', 'aigc:team:' .. job.team, 'queued', open)
  redis.call('SADD', 'aigc:live', job.id)
  redis.call('ZREM', 'aigc:final', job.id)
  redis.call('HDEL', job.key, 'finished_at', 'papers')
end
redis.call('HSET', job.key, 'state', 'running', 'stop', '', 'hard', 0, 'paused', 0, 'not_before', 0, 'last_error', '')
local v = redis.call('HMGET', job.key, 'expires_at', 'deadline_at')
local expires, deadline = tonumber(v[1]), tonumber(v[2])
if expires <= at then
  expires = at + tonumber(ARGV[7])
  redis.call('HSET', job.key, 'expires_at', string.format('%.6f', expires))
end
redis.call('ZADD', 'aigc:expiries', string.format('%.6f', expires), job.id)
if deadline > at then redis.call('ZADD', 'aigc:deadlines', deadline, job.id) end
audit('retry', job.id, at, ARGV[5], ARGV[6], state, #chosen .. ' chunks, ' .. items .. ' items')
emit('job.retried', job.id, at, {chunks = #chosen, items = items})
settle(job.id, at)
return {#chosen, items, more(job.kind)}
