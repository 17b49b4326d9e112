-- End the items that wait for a version that cannot be served.
-- KEYS queue
-- ARGV which (all | fresh | late), the last frame up to its usage, ttl_seconds, the rest of the
-- frame for an item that was never given back by a host
-- Returns how many were ended. The deadline is for the first token: an item whose answer has begun
-- is neither fresh nor late, and is ended by 'all' only.
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local ended = 0
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, 9999)) do
  local stream, item = 'brigade:stream:' .. id, 'brigade:item:' .. id
  local deadline = tonumber(redis.call('HGET', item, 'deadline') or 0)
  local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  if ARGV[1] == 'all' or (not last and (ARGV[1] == 'fresh' or deadline < now)) then
    local number = last and tonumber(string.match(last[1], '^%d+')) or 0
    redis.call('ZREM', KEYS[1], id)
    local rest = redis.call('HGET', item, 'failed_rest') or ARGV[4]
    redis.call('XADD', stream, (number + 1) .. '-0', 'f', ARGV[2] .. rest)
    redis.call('EXPIRE', stream, ARGV[3])
    redis.call('DEL', item)
    ended = ended + 1
  end
end
return ended
