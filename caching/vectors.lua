-- Keep vectors if a field of a hash has a value; delete those that were not asked for the longest.
-- KEYS: last uses, hash. ARGV: prefix, TTL, most vectors, now, field, value; then key, vector, …
local prefix, ttl, most, now, field, value = unpack(ARGV, 1, 6)
if redis.call('HGET', KEYS[2], field) ~= value then return end
for index = 7, #ARGV, 2 do
  redis.call('SET', prefix .. ARGV[index], ARGV[index + 1], 'EX', ttl)
  redis.call('ZADD', KEYS[1], now, ARGV[index])
end
redis.call('EXPIRE', KEYS[1], ttl)
local extra = math.max(0, redis.call('ZCARD', KEYS[1]) - most)
local oldest = redis.call('ZPOPMIN', KEYS[1], extra)
for index = 1, #oldest, 2 do
  redis.call('UNLINK', prefix .. oldest[index])
end
