-- Append frames to token streams for one host, and count what waits for it.
-- KEYS claims, fenced, control, queue
-- ARGV ttl_seconds, then (id, number, payload, mark, computed prompt tokens, computed completion
-- tokens)… with mark 0 nothing, 1 proven, 2 last frame, 3 last frame of an item that was served to
-- its end. The tokens of last frames are added to the ledger of the item's day, if it has one.
-- Returns {messages, waiting items}, or false when fenced. A number that the stream already has is
-- passed over: the reply to an earlier attempt was lost, or the stream has ended. Any other error
-- must not leave a gap.
if redis.call('EXISTS', KEYS[2]) == 1 then return false end
local served = false
for i = 2, #ARGV, 6 do
  local id, number, mark = ARGV[i], ARGV[i + 1], ARGV[i + 3]
  local stream = 'brigade:stream:' .. id
  local added = redis.pcall('XADD', stream, number .. '-0', 'f', ARGV[i + 2])
  if type(added) == 'table' and added.err and not string.find(added.err, 'equal or smaller', 1, true)
  then return added end
  if redis.call('XLEN', stream) == 1 then redis.call('EXPIRE', stream, 86400) end
  if mark == '1' then
    redis.call('HSET', KEYS[1], id, 1)
  elseif mark == '2' or mark == '3' then
    local item = 'brigade:item:' .. id
    -- A frame that was passed over has been counted before.
    local day = type(added) ~= 'table' and redis.call('HGET', item, 'day')
    local ledger = day and 'brigade:ledger:' .. day
    if ledger and redis.call('EXISTS', ledger) == 1 then
      redis.call('HINCRBY', ledger, 'computed_prompt', ARGV[i + 4])
      redis.call('HINCRBY', ledger, 'computed_completion', ARGV[i + 5])
    end
    redis.call('HDEL', KEYS[1], id)
    redis.call('DEL', item)
    redis.call('EXPIRE', stream, ARGV[1])
    served = served or mark == '3'
  end
end
if served then
  -- The host has served an item to its end. Only heartbeats give this key an expiry.
  local host = 'brigade:host:' .. string.sub(KEYS[1], #'brigade:claims:' + 1)
  if redis.call('EXISTS', host) == 1 then redis.call('HSET', host, 'served', 1) end
end
return {redis.call('LLEN', KEYS[3]), redis.call('ZCARD', KEYS[4])}
