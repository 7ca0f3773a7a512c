-- KEYS: none
-- ARGV: id, kind, team, lane, priority, ageing seconds of it, latest rank (empty: none), spec, idempotency key, chunk_count,
--       chunk_items, total, window, start_at, deadline_at, expires_at (0: none named), seconds until then where none is named, identity
-- Answer: {accepted, id, tickets} | {known, id} | {conflict, id} | {full, reason}
local at = now()
local id, kind, team, total = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[12])
local idempotency = 'aigc:idempotency:' .. team .. ':' .. kind .. ':' .. ARGV[9]
local known = redis.call('GET', idempotency)
if known then
  local identity = redis.call('HGET', J(known), 'identity')
  if identity and identity ~= ARGV[18] then return {'conflict', known} end
  local mine = known == id and read(id)
  if mine then return {'accepted', id, (claimable(mine, at))} end -- this very submit, sent twice
  return {'known', known}
end
local limits = redis.call('HMGET', 'aigc:team:' .. team, 'queued', 'queued_max')
local queued, queued_max = tonumber(limits[1] or '0'), tonumber(limits[2] or '0')
if queued_max > 0 and queued + total > queued_max then
  return {'full', string.format('team %s has %d waiting and may have %d', team, queued, queued_max)}
end
local jobs_max = tonumber(redis.call('HGET', 'aigc:limits', 'jobs_max') or '100000')
local live = redis.call('SCARD', 'aigc:live')
if live >= jobs_max then return {'full', string.format('%d jobs of at most %d are waiting or running', live, jobs_max)} end

local start, deadline, expires = tonumber(ARGV[14]), tonumber(ARGV[15]), tonumber(ARGV[16])
if expires == 0 then expires = math.max(at, start) + tonumber(ARGV[17]) end
local rank = math.max(at, start) + tonumber(ARGV[6])
if ARGV[7] ~= '' then rank = math.min(rank, tonumber(ARGV[7])) end
redis.call('SET', idempotency, id, 'EX', 31968000)
redis.call('HSET', J(id), 'id', id, 'kind', kind, 'team', team, 'lane', ARGV[4], 'priority', ARGV[5], 'rank', string.format('%.6f', rank),
  'state', start > at and 'scheduled' or 'available', 'since', string.format('%.6f', math.max(at, start)), 'latest_rank', ARGV[7], 'spec', ARGV[8], 'identity', ARGV[18], 'chunk_count', ARGV[10], 'chunk_items', ARGV[11],
  'total', total, 'window', ARGV[13], 'start_at', ARGV[14], 'deadline_at', ARGV[15], 'expires_at', string.format('%.6f', expires),
  'not_before', ARGV[14], 'created_at', string.format('%.6f', at))
redis.call('SADD', 'aigc:live', id)
redis.call('ZADD', 'aigc:jobs', at, id)
redis.call('HINCRBY', 'aigc:team:' .. team, 'queued', total)
redis.call('ZADD', 'aigc:expiries', string.format('%.6f', expires), id)
if deadline > 0 then redis.call('ZADD', 'aigc:deadlines', deadline, id) end
emit('job.submitted', id, at, {kind = kind, team = team, total = total})
return {'accepted', id, settle(id, at)}
