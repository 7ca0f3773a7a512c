-- Time comes from Redis alone, so a worker's clock can neither expire nor extend a lease.
local function now()
  local t = redis.call('TIME')
  return tonumber(t[1]) + tonumber(t[2]) / 1000000
end
