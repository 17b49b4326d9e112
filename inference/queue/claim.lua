-- Take the first items of a queue for one host.
-- KEYS queue, claims, fenced, ready
-- ARGV max_items, launch_id, may_take_suspect (0 | 1), above_priority
-- Returns {claimed…, expired…}: {{id, payload, waited_seconds}…}, {id…}; or false when fenced.
--
-- * An item that comes back from a dead host has waited twice: the seconds are added up.
-- * The deadline holds only until the answer begins.
-- * A suspect (its host died before) is taken alone. While it may not be taken, it and the items
--   behind it keep their places.
-- * Items at or below the given priority are skipped.
-- * In the first tenth of a second after an item has come, a host takes it only within its share of
--   all waiting and claimed items, so that hosts with less to do go first.
if redis.call('EXISTS', KEYS[3]) == 1 then return false end
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local claimed, expired = {}, {}
local passed = 0
local share = math.huge
-- Hosts beat more often than once a minute; dead ones count only until then.
local hosts = redis.call('ZRANGEBYSCORE', KEYS[4], now - 60, '+inf')
if #hosts > 1 then
  local total = redis.call('ZCARD', KEYS[1])
  for _, host in ipairs(hosts) do total = total + redis.call('HLEN', 'brigade:claims:' .. host) end
  share = math.ceil(total / #hosts) - redis.call('HLEN', KEYS[2])
end
while #claimed < tonumber(ARGV[1]) and passed < 256 do
  local id = redis.call('ZRANGE', KEYS[1], passed, passed)[1]
  if not id then break end
  local item = 'brigade:item:' .. id
  local fields = redis.call('HMGET', item, 'payload', 'deadline', 'enqueued', 'crashes', 'priority',
    'waits_since', 'waited')
  if not fields[1] then
    redis.call('ZREM', KEYS[1], id)
  elseif tonumber(fields[2]) < now and redis.call('EXISTS', 'brigade:stream:' .. id) == 0 then
    redis.call('ZREM', KEYS[1], id)
    redis.call('HSET', KEYS[2], id, 0)
    redis.call('HSET', item, 'owner', ARGV[2])
    expired[#expired + 1] = id
  elseif tonumber(fields[5] or 0) <= tonumber(ARGV[4]) then
    passed = passed + 1
  elseif #claimed >= share and now - tonumber(fields[3]) < 0.1 then
    break
  else
    local suspect = tonumber(fields[4]) > 0
    if suspect and (ARGV[3] == '0' or #claimed > 0) then break end
    redis.call('ZREM', KEYS[1], id)
    redis.call('HSET', KEYS[2], id, 0)
    local waited = (fields[7] or 0) + now - tonumber(fields[6] or fields[3])
    waited = string.format('%.6f', waited)
    redis.call('HSET', item, 'owner', ARGV[2], 'waited', waited)
    claimed[#claimed + 1] = {id, fields[1], waited}
    if suspect then break end
  end
end
return {claimed, expired}
