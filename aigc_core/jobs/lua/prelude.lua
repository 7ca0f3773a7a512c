-- Put in front of every move, after clock.lua.
--
-- aigc:job:<id>             hash    the job: kind team lane priority since latest_rank rank state spec identity chunk_count chunk_items total
--                                   window cursor done discarded completed failed bytes token paused stop hard not_before
--                                   start_at deadline_at expires_at waiting_for last_error attempts_error attempts_lost
--                                   created_at started_at finished_at papers progress
-- aigc:job:<id>:leases      hash    chunk → "token attempt request worker": chunks in work, at most `window`
-- aigc:job:<id>:again       zset    chunk → time from which it may be claimed again; only chunks that failed or were handed back
-- aigc:job:<id>:tries       hash    chunk → "errors losses"; only chunks that had one
-- aigc:job:<id>:done        bitmap  committed chunks
-- aigc:job:<id>:dead        hash    chunk → "fingerprint reason": chunks given up
-- aigc:job:<id>:recent      list    "chunk token|answer" of the last ended leases, for moves that were sent twice
-- aigc:live                 set     ids of jobs that are not final
-- aigc:jobs                 zset    id → created_at, all jobs
-- aigc:final                zset    id → finished_at, for retention
-- aigc:unannounced          zset    id → finished_at of jobs of whose end nobody has been told
-- aigc:dead                 set     ids of jobs with chunks given up
-- aigc:leases               zset    "id chunk" → end of the lease, over all jobs
-- aigc:claims               hash    request → "id chunk": live leases by the claim that made them
-- aigc:expiries, aigc:deadlines   zset  id → time
-- aigc:later:<kind>         zset    id → time at which it can be claimed again
-- aigc:ready:<kind>:<lane>          zset  team → virtual time: teams with something to claim
-- aigc:ready:<kind>:<lane>:<team>   zset  id → rank
-- aigc:clock:<kind>:<lane>  string  virtual time of the last claim
-- aigc:team:<team>          hash    weight queued_max running_max, queued, running:<kind>, pass:<kind>:<lane>
-- aigc:limits               hash    jobs_max: live jobs
-- aigc:workers              zset    worker → time of its last claim;  aigc:draining  set  workers that take nothing new
-- aigc:idempotency:<team>:<kind>:<key>  string → id
-- aigc:events, aigc:audit   stream  bounded; append-only
-- Chunk -1 is the finalising of a generation job. All keys are in one Redis: names are made here, not declared.

local FINAL = {completed = true, completed_with_errors = true, failed = true, cancelled = true}
local RECENT_MAX = 63

local function J(id) return 'aigc:job:' .. id end

local function emit(kind, id, at, facts)
  redis.call('XADD', 'aigc:events', 'MAXLEN', '~', '10000', '*', 'type', kind, 'job', id, 'at', string.format('%.3f', at),
    'facts', cjson.encode(facts))
end

local function audit(move, id, at, who, why, before, after)
  redis.call('XADD', 'aigc:audit', '*', 'move', move, 'subject', id, 'at', string.format('%.3f', at), 'who', who, 'why', why,
    'before', before, 'after', after)
end

local function read(id)
  local v = redis.call('HMGET', J(id), 'kind', 'lane', 'team', 'rank', 'state', 'paused', 'stop', 'not_before', 'window',
    'chunk_count', 'cursor', 'done', 'discarded', 'total', 'chunk_items', 'hard')
  if not v[1] then return nil end
  return {id = id, key = J(id), kind = v[1], lane = v[2], team = v[3], rank = v[4], state = v[5], paused = v[6] == '1',
    stop = v[7] or '', not_before = tonumber(v[8] or '0'), window = tonumber(v[9]), chunk_count = tonumber(v[10]),
    cursor = tonumber(v[11] or '0'), done = tonumber(v[12] or '0'), discarded = tonumber(v[13] or '0'),
    total = tonumber(v[14]), chunk_items = tonumber(v[15]), hard = v[16] == '1'}
end

local function items_of(job, chunk)
  if chunk < 0 then return 0 end
  return math.min(job.chunk_items, job.total - chunk * job.chunk_items)
end

local function ends(job)
  return job.stop ~= '' or job.done + job.discarded >= job.chunk_count
end

-- Chunks that could be claimed now (the finalising counts as one), and, where there are none, from when on there are.
local function claimable(job, at)
  if FINAL[job.state] then return 0 end
  local leased = redis.call('HLEN', job.key .. ':leases')
  if ends(job) then
    if leased > 0 or job.kind == 'training' then return 0 end
    if job.not_before > at then return 0, job.not_before end
    return 1
  end
  if job.not_before > at then return 0, job.not_before end
  if job.paused or leased >= job.window then return 0 end
  local count = redis.call('ZCOUNT', job.key .. ':again', '-inf', at) + job.chunk_count - job.cursor
  if count > 0 then return math.min(count, job.window - leased) end
  local first = redis.call('ZRANGE', job.key .. ':again', 0, 0, 'WITHSCORES')
  return 0, first[2]
end

local function ready_key(kind, lane) return 'aigc:ready:' .. kind .. ':' .. lane end

-- Put a team into the line of those with something to claim, unless its cap says no. An idle team has saved nothing up: it
-- starts at the line's own virtual time.
local function enlist(kind, lane, team)
  local line = ready_key(kind, lane)
  if redis.call('EXISTS', line .. ':' .. team) == 0 then
    redis.call('ZREM', line, team)
    return
  end
  local v = redis.call('HMGET', 'aigc:team:' .. team, 'running_max', 'running:' .. kind, 'pass:' .. kind .. ':' .. lane)
  local cap = tonumber(v[1] or '0')
  if cap > 0 and tonumber(v[2] or '0') >= cap then
    redis.call('ZREM', line, team)
  elseif not redis.call('ZSCORE', line, team) then
    local clock = tonumber(redis.call('GET', 'aigc:clock:' .. kind .. ':' .. lane) or '0')
    redis.call('ZADD', line, math.max(tonumber(v[3] or '0'), clock), team)
  end
end

-- A cap holds over both lanes: what one of them takes or gives back, the other has to know.
local function enlist_all(kind, team)
  for _, lane in ipairs({'normal', 'background'}) do enlist(kind, lane, team) end
end

local function finish(job, state, at)
  local counts = redis.call('HMGET', job.key, 'completed', 'failed', 'stop')
  local open = job.total - tonumber(counts[1] or '0') - tonumber(counts[2] or '0')
  redis.call('HSET', job.key, 'state', state, 'finished_at', at)
  redis.call('SREM', 'aigc:live', job.id)
  redis.call('ZADD', 'aigc:final', at, job.id)
  redis.call('ZADD', 'aigc:unannounced', at, job.id)
  redis.call('HINCRBY', 'aigc:team:' .. job.team, 'queued', 0 - open)
  redis.call('ZREM', 'aigc:later:' .. job.kind, job.id)
  redis.call('ZREM', 'aigc:expiries', job.id)
  redis.call('ZREM', 'aigc:deadlines', job.id)
  redis.call('ZREM', ready_key(job.kind, job.lane) .. ':' .. job.team, job.id)
  enlist(job.kind, job.lane, job.team)
  if open == 0 then redis.call('DEL', job.key .. ':again', job.key .. ':tries') end
  emit('job.' .. state, job.id, at, {completed = tonumber(counts[1] or '0'), failed = tonumber(counts[2] or '0'),
    stop = counts[3] or ''})
end

-- Bring everything that is derived from a job's record up to date: whether and from when it can be claimed. A training job
-- has no papers to put together, so its end needs no worker.
local function settle(id, at)
  local job = read(id)
  if not job or FINAL[job.state] then return 0 end
  if job.kind == 'training' and ends(job) and redis.call('HLEN', job.key .. ':leases') == 0 then
    local state = job.done > 0 and 'completed' or (job.stop == 'cancelled' or job.stop == 'expired') and 'cancelled' or 'failed'
    finish(job, state, at)
    return 0
  end
  local count, due = claimable(job, at)
  local line = ready_key(job.kind, job.lane) .. ':' .. job.team
  if count > 0 then
    redis.call('ZADD', line, ends(job) and 0 or job.rank, id)
  else
    redis.call('ZREM', line, id)
  end
  enlist(job.kind, job.lane, job.team)
  if job.state == 'scheduled' and job.not_before <= at then redis.call('HSET', job.key, 'state', 'available') end
  if due then
    redis.call('ZADD', 'aigc:later:' .. job.kind, due, id)
  else
    redis.call('ZREM', 'aigc:later:' .. job.kind, id)
  end
  return count
end

-- Jobs whose time has come go into the line.
local function promote(kind, at, limit)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', 'aigc:later:' .. kind, '-inf', at, 'LIMIT', 0, limit)) do
    redis.call('ZREM', 'aigc:later:' .. kind, id)
    settle(id, at)
  end
end

-- Whether a ticket of this kind would find something.
local function more(kind)
  return redis.call('EXISTS', ready_key(kind, 'normal'), ready_key(kind, 'background')) > 0 and 1 or 0
end

-- Token, attempt and request of the live lease on a chunk, or nil.
local function held(job, chunk)
  local lease = redis.call('HGET', job.key .. ':leases', chunk)
  if not lease then return nil end
  return string.match(lease, '^(%d+) (%d+) (%S+)')
end

local function drop(job, chunk)
  local _, _, request = held(job, chunk)
  redis.call('HDEL', 'aigc:claims', request)
  redis.call('HDEL', job.key .. ':leases', chunk)
  redis.call('ZREM', 'aigc:leases', job.id .. ' ' .. chunk)
  redis.call('HINCRBY', 'aigc:team:' .. job.team, 'running:' .. job.kind, -1)
  if tonumber(redis.call('HGET', 'aigc:team:' .. job.team, 'running_max') or '0') > 0 then enlist_all(job.kind, job.team) end
end

-- The answer to a move that has ended a lease, kept for a while: a client may send a move twice.
local function remember(job, chunk, token, answer)
  redis.call('LPUSH', job.key .. ':recent', chunk .. ' ' .. token .. '|' .. cjson.encode(answer))
  redis.call('LTRIM', job.key .. ':recent', 0, RECENT_MAX)
  return answer
end

local function remembered(job, chunk, token)
  local prefix = chunk .. ' ' .. token .. '|'
  for _, entry in ipairs(redis.call('LRANGE', job.key .. ':recent', 0, -1)) do
    if string.sub(entry, 1, #prefix) == prefix then return cjson.decode(string.sub(entry, #prefix + 1)) end
  end
end

local function tries_of(job, chunk)
  local errors, losses = string.match(redis.call('HGET', job.key .. ':tries', chunk) or '0 0', '(%d+) (%d+)')
  return tonumber(errors), tonumber(losses)
end

-- Give a chunk up: its items count as failed. A finalising that is given up ends the job; its pictures are all kept.
local function discard(job, chunk, at, fingerprint, reason)
  if chunk == -1 then
    redis.call('HSET', job.key, 'papers', 'failed')
    finish(job, 'failed', at)
    return
  end
  local items = items_of(job, chunk)
  redis.call('HINCRBY', job.key, 'discarded', 1)
  redis.call('HINCRBY', job.key, 'failed', items)
  redis.call('HINCRBY', 'aigc:team:' .. job.team, 'queued', 0 - items)
  redis.call('HSET', job.key .. ':dead', chunk, fingerprint .. ' ' .. reason)
  redis.call('SADD', 'aigc:dead', job.id)
  emit('chunk.discarded', job.id, at, {chunk = chunk, reason = reason, fingerprint = fingerprint})
end
