-- Append frames to token streams for one host, and count what waits for it. caching/forget.lua goes
-- before this script.
-- KEYS claims, fenced, control, queue
-- ARGV ttl_seconds, then (id, number, payload, mark, computed prompt tokens, computed completion
-- tokens)… with mark 0 nothing, 1 proven, 2 last frame, 3 last frame of an item that was served to
-- its end, 4 the same and its stream may be cached, 5 the same for the same request only.
-- The tokens of last frames are added to the ledger of the item's day, if it has one. The last
-- frame of a shared generation names the reader whose record has its computed tokens.
-- Returns {messages, waiting items}, or false when fenced. A number that the stream already has is
-- passed over: the reply to an earlier attempt was lost, or the stream has ended. Any other error
-- must not leave a gap.
if redis.call('EXISTS', KEYS[2]) == 1 then return false end

local function keep(stream, plan, is_whole)
  local time, name, about = redis.call('TIME'), 'brigade:cache:' .. plan.key, plan.about
  local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
  forget(plan.key)
  redis.call('COPY', stream, name, 'REPLACE')
  redis.call('EXPIRE', name, plan.ttl)
  if plan.retyped and is_whole then
    about.retyped = plan.retyped
    redis.call('SET', 'brigade:retyped:' .. plan.retyped, plan.key, 'EX', plan.ttl)
  end
  -- With the entries of the index, and the pointer.
  about.bytes = redis.call('MEMORY', 'USAGE', name) + 1000
  about.made_at, about.expires_at = now, now + plan.ttl
  redis.call('HSET', 'brigade:cached', plan.key, cjson.encode(about))
  redis.call('ZADD', 'brigade:cache_use', now, plan.key)
  local held = redis.call('INCRBY', 'brigade:cache_bytes', about.bytes)
  while held > plan.budget do
    local oldest = redis.call('ZRANGE', 'brigade:cache_use', 0, 0)[1]
    if not oldest then
      redis.call('SET', 'brigade:cache_bytes', 0)
      break
    end
    forget(oldest)
    held = tonumber(redis.call('GET', 'brigade:cache_bytes'))
  end
end

local served = false
for i = 2, #ARGV, 6 do
  local id, number, mark = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 3])
  local stream, item = 'brigade:stream:' .. id, 'brigade:item:' .. id
  local fields, day, plan, may_keep = {'f', ARGV[i + 2]}, nil, nil, false
  if mark >= 2 then
    local known = redis.call('HMGET', item, 'day', 'cache', 'crashes', 'cancelled')
    day, plan = known[1], known[2] and cjson.decode(known[2])
    if plan then
      local owner = redis.call('ZRANGE', 'brigade:readers:' .. id, 0, 0)[1] or ''
      fields[3], fields[4] = 'o', owner
      -- The readers may have been accepted on different days.
      day = string.match(redis.call('GET', 'brigade:source:' .. owner) or '', '%S+$') or day
      -- A later request to refresh has a generation of its own.
      local is_current = redis.call('GET', 'brigade:flight:' .. plan.key) == id
      may_keep = mark >= 4 and known[3] == '0' and not known[4] and is_current
      if is_current then redis.call('DEL', 'brigade:flight:' .. plan.key) end
      redis.call('DEL', 'brigade:readers:' .. id)
    end
  end
  local added = redis.pcall('XADD', stream, number .. '-0', unpack(fields))
  if type(added) == 'table' and added.err and not string.find(added.err, 'equal or smaller', 1, true)
  then return added end
  if redis.call('XLEN', stream) == 1 then redis.call('EXPIRE', stream, 86400) end
  if mark == 1 then
    redis.call('HSET', KEYS[1], id, 1)
  elseif mark >= 2 then
    -- A frame that was passed over has been counted before.
    local ledger = type(added) ~= 'table' and day and 'brigade:ledger:' .. day
    if ledger and redis.call('EXISTS', ledger) == 1 then
      redis.call('HINCRBY', ledger, 'computed_prompt', ARGV[i + 4])
      redis.call('HINCRBY', ledger, 'computed_completion', ARGV[i + 5])
    end
    if may_keep and type(added) ~= 'table' then keep(stream, plan, mark == 4) end
    redis.call('HDEL', KEYS[1], id)
    redis.call('DEL', item)
    redis.call('EXPIRE', stream, ARGV[1])
    served = served or mark >= 3
  end
end
if served then
  -- The host has served an item to its end. Only heartbeats give this key an expiry.
  local host = 'brigade:host:' .. string.sub(KEYS[1], #'brigade:claims:' + 1)
  if redis.call('EXISTS', host) == 1 then redis.call('HSET', host, 'served', 1) end
end
return {redis.call('LLEN', KEYS[3]), redis.call('ZCARD', KEYS[4])}
