-- Fence hosts without a heartbeat for lease_seconds, once: from now on they may write nothing.
-- KEYS hosts, dead
-- ARGV lease_seconds, fenced_seconds
-- Returns the launch ids fenced now.
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local lost = redis.call('ZRANGE', KEYS[1], '-inf', '(' .. (now - tonumber(ARGV[1])), 'BYSCORE')
for _, launch in ipairs(lost) do
  redis.call('SET', 'brigade:fenced:' .. launch, 1, 'EX', ARGV[2])
  redis.call('SADD', KEYS[2], launch)
  redis.call('ZREM', KEYS[1], launch)
  local version = redis.call('HGET', 'brigade:host:' .. launch, 'version_key')
  if version then redis.call('ZREM', 'brigade:ready:' .. version, launch) end
end
return lost
