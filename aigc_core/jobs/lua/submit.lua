-- KEYS: aigc:job:<id>, aigc:idempotency:<key> (string → id, 7 days)
-- ARGV: id, kind, team, priority, spec, chunk_count, chunk_items, total, window
-- Answer: {id of the job, tickets to publish}
local known = redis.call('GET', KEYS[2])
if known then return {known, 0} end
local at = now()
local id, tickets = ARGV[1], math.min(tonumber(ARGV[6]), tonumber(ARGV[9]))
redis.call('SET', KEYS[2], id, 'EX', 604800)
redis.call('HSET', KEYS[1],
  'id', id, 'kind', ARGV[2], 'team', ARGV[3], 'priority', ARGV[4], 'state', 'available', 'spec', ARGV[5],
  'chunk_count', ARGV[6], 'chunk_items', ARGV[7], 'total', ARGV[8], 'window', ARGV[9], 'tickets', tickets,
  'ticket_at', at, 'created_at', at)
redis.call('SADD', 'aigc:live', id)
redis.call('ZADD', 'aigc:jobs', at, id)
emit('job.submitted', id, at, cjson.encode({kind = ARGV[2], team = ARGV[3], total = tonumber(ARGV[8])}))
return {id, tickets}
