-- Put in front of every move. Time comes from Redis alone, so a worker's clock can neither expire nor extend a lease.
--
-- aigc:job:<id>          hash    the job: kind team priority state spec chunk_count chunk_items total window cursor
--                                done discarded completed failed bytes token tickets ticket_at not_before waiting_for
--                                cancel abort last_error attempts_error attempts_lost created_at started_at finished_at progress
-- aigc:job:<id>:leases   hash    chunk → "token attempt worker": chunks in work; at most `window` entries
-- aigc:job:<id>:expiry   zset    chunk → time at which its lease ends
-- aigc:job:<id>:again    zset    chunk → time from which it may be claimed again; only chunks that failed or were released
-- aigc:job:<id>:tries    hash    chunk → "errors losses"; only chunks that had one
-- aigc:job:<id>:done     bitmap  committed chunks
-- aigc:live              set     ids of jobs that are not final
-- aigc:jobs              zset    id → created_at, all jobs
-- aigc:events            stream  type job at facts; bounded
-- Chunk -1 is the finalising of the job.

local function now()
  local t = redis.call('TIME')
  return tonumber(t[1]) + tonumber(t[2]) / 1000000
end

local function emit(kind, id, at, facts)
  redis.call('XADD', 'aigc:events', 'MAXLEN', '~', '10000', '*', 'type', kind, 'job', id, 'at', string.format('%.3f', at), 'facts', facts)
end

local function number(key, field)
  return tonumber(redis.call('HGET', key, field) or '0')
end

-- Token of the live lease on a chunk, or nil.
local function held(key, chunk)
  local lease = redis.call('HGET', key .. ':leases', chunk)
  if not lease then return nil end
  return string.match(lease, '^(%d+)')
end

local function drop(key, chunk)
  redis.call('HDEL', key .. ':leases', chunk)
  redis.call('ZREM', key .. ':expiry', chunk)
end

-- Chunks that could be claimed at time `at`; the finalising counts as one.
local function claimable(key, at)
  if number(key, 'not_before') > at then return 0 end
  local leased = redis.call('HLEN', key .. ':leases')
  local over = number(key, 'done') + number(key, 'discarded') >= number(key, 'chunk_count')
  local stopped = redis.call('HGET', key, 'cancel') == '1' or redis.call('HGET', key, 'abort') == '1'
  if over or stopped then
    return leased == 0 and 1 or 0
  end
  return redis.call('ZCOUNT', key .. ':again', '-inf', at) + number(key, 'chunk_count') - number(key, 'cursor')
end

-- Whether one more ticket is worth publishing; counts it as published.
local function next_ticket(key, at)
  local out = redis.call('HLEN', key .. ':leases') + number(key, 'tickets')
  local useful = math.min(number(key, 'window'), redis.call('HLEN', key .. ':leases') + claimable(key, at))
  if out >= useful then return 0 end
  redis.call('HINCRBY', key, 'tickets', 1)
  redis.call('HSET', key, 'ticket_at', at)
  return 1
end

local function items_of(key, chunk)
  local size = number(key, 'chunk_items')
  return math.min(size, number(key, 'total') - chunk * size)
end

-- Give a chunk up: its items count as failed. The finalising cannot be given up without ending the job.
local function discard(key, id, chunk, at, reason)
  if chunk == -1 then
    redis.call('HSET', key, 'state', 'failed', 'finished_at', at)
    redis.call('SREM', 'aigc:live', id)
    emit('job.failed', id, at, cjson.encode({reason = reason}))
  else
    redis.call('HINCRBY', key, 'discarded', 1)
    redis.call('HINCRBY', key, 'failed', items_of(key, chunk))
    emit('chunk.discarded', id, at, cjson.encode({chunk = chunk, reason = reason}))
  end
end
