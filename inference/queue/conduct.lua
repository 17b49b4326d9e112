-- Let a process conduct a run of several models: a new run, or one whose conductor is silent.
-- KEYS item
-- ARGV conductor, lease_seconds, ttl_seconds, '1' for a new run
-- Returns 1 if it has the run now; 0 if another has it, or the run has ended.
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local fields = redis.call('HMGET', KEYS[1], 'owner', 'lease')
if not fields[1] and ARGV[4] ~= '1' then return 0 end
if fields[1] and fields[1] ~= ARGV[1] and tonumber(fields[2]) > now then return 0 end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'lease', string.format('%.3f', now + ARGV[2]))
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
