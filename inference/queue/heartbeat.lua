-- Renew a host's lease on itself and on all it has claimed.
-- KEYS hosts, ready, host, fenced
-- ARGV launch_id, is_ready (0 | 1), ttl_seconds, then field, value…
-- Returns 1, or 0 when fenced.
if redis.call('EXISTS', KEYS[4]) == 1 then return 0 end
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
redis.call('ZADD', KEYS[1], now, ARGV[1])
if ARGV[2] == '1' then redis.call('ZADD', KEYS[2], now, ARGV[1])
else redis.call('ZREM', KEYS[2], ARGV[1]) end
redis.call('HSET', KEYS[3], unpack(ARGV, 4))
redis.call('EXPIRE', KEYS[3], ARGV[3])
return 1
