-- A function that deletes a cached answer by its key, and returns the number of deleted ones.
local function forget(key)
  redis.call('DEL', 'brigade:cache:' .. key)
  redis.call('ZREM', 'brigade:cache_use', key)
  local text = redis.call('HGET', 'brigade:cached', key)
  if not text then return 0 end
  redis.call('HDEL', 'brigade:cached', key)
  local is_json, about = pcall(cjson.decode, text)
  if is_json then
    if about.retyped then redis.call('DEL', 'brigade:retyped:' .. about.retyped) end
    redis.call('DECRBY', 'brigade:cache_bytes', tonumber(about.bytes) or 0)
  end
  return 1
end
