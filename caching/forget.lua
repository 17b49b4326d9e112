-- Delete cached answers.
-- ARGV key…
-- Returns the number of deleted answers.
local count = 0
for _, key in ipairs(ARGV) do
  redis.call('DEL', 'brigade:cache:' .. key)
  redis.call('ZREM', 'brigade:cache_use', key)
  local text = redis.call('HGET', 'brigade:cached', key)
  local is_json, about = pcall(cjson.decode, text or '')
  count = count + redis.call('HDEL', 'brigade:cached', key)
  if is_json then
    if about.retyped then redis.call('DEL', 'brigade:retyped:' .. about.retyped) end
    redis.call('DECRBY', 'brigade:cache_bytes', tonumber(about.bytes) or 0)
  end
end
return count
