-- Delete cached answers.
-- ARGV key…
-- Returns the number of deleted answers.
local count = 0
for _, key in ipairs(ARGV) do
  local about = redis.call('HGET', 'brigade:cached', key)
  if about then
    redis.call('DEL', 'brigade:cache:' .. key)
    redis.call('HDEL', 'brigade:cached', key)
    redis.call('ZREM', 'brigade:cache_use', key)
    redis.call('DECRBY', 'brigade:cache_bytes', cjson.decode(about).bytes)
    count = count + 1
  end
end
return count
