-- Keep vectors if a field of a hash has a value; delete those that were not asked for the longest.
-- KEYS: last uses, hash. ARGV: prefix, TTL, most vectors, now, field, value; then key, vector, …
if redis.call('HGET', KEYS[2], ARGV[5]) ~= ARGV[6] then return end
for index = 7, #ARGV, 2 do
  redis.call('SET', ARGV[1] .. ARGV[index], ARGV[index + 1], 'EX', ARGV[2])
  redis.call('ZADD', KEYS[1], ARGV[4], ARGV[index])
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
local extra = math.max(0, redis.call('ZCARD', KEYS[1]) - ARGV[3])
local oldest = redis.call('ZPOPMIN', KEYS[1], extra)
for index = 1, #oldest, 2 do redis.call('UNLINK', ARGV[1] .. oldest[index]) end
