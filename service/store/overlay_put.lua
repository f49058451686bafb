-- Change items atomically. A part that is not given stays as it is.
--
-- KEYS  as overlay.lua says
-- ARGV  1 an epoch, used if there is none yet   2 a nonce of this call
--       then for every item: id, available ('0', '1', '' as it is, 'x' delete the item),
--       attributes as JSON {name: JSON text} or '', vectors as JSON {name: base64} or ''
-- Return epoch, count, nonce, then 1 or 0 for every item: whether it was changed.

local epoch, count, nonce = version()
local now = redis.call('TIME')
local time = string.format('%d.%03d', now[1], now[2] / 1000)

local function decoded(text)
  local done, values = pcall(cjson.decode, text or '{}')
  return done and type(values) == 'table' and values or {}
end

-- Put the given values over the stored ones; return whether that changed any of them.
local function merge(stored, given)
  local differs = false
  for name, value in pairs(given) do
    if stored[name] ~= value then
      stored[name], differs = value, true
    end
  end
  return differs
end

-- first only read, so that an error leaves nothing half done
local reply, writes, seen = {}, {}, {}
for at = 3, #ARGV, 4 do
  local id, available, attributes, vectors = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local write = seen[id]
  if not write then
    local stored = redis.call('HGET', KEYS[4], id)
    write = { id = id, known = stored, item = decoded(stored) }
    write.item.attributes = write.item.attributes or {}
  end
  local differs = not write.known
  if available == 'x' then
    differs = differs or write.item.available ~= '0' or next(write.item.attributes) ~= nil
      or write.vectors or (not write.without_vectors and redis.call('HEXISTS', KEYS[5], id) == 1)
    write.item, write.vectors, write.without_vectors = { available = '0', attributes = {} }, nil, true
  else
    local wanted = available ~= '' and available or write.item.available or '1'
    differs = write.item.available ~= wanted or differs
    write.item.available = wanted
    if attributes ~= '' then
      differs = merge(write.item.attributes, decoded(attributes)) or differs
    end
    if vectors ~= '' then
      write.vectors = write.vectors
        or decoded(not write.without_vectors and redis.call('HGET', KEYS[5], id) or nil)
      differs = merge(write.vectors, decoded(vectors)) or differs
    end
  end
  reply[#reply + 1] = differs and 1 or 0
  if differs then
    write.known = true
    if not seen[id] then writes[#writes + 1] = write end
    seen[id] = write
  end
end

if #writes > 0 then
  if epoch == '' then epoch = ARGV[1] end
  nonce = ARGV[2]
  for _, write in ipairs(writes) do
    count = count + 1
    write.item.changed = time
    redis.call('HSET', KEYS[4], write.id, cjson.encode(write.item))
    if write.vectors then
      redis.call('HSET', KEYS[5], write.id, cjson.encode(write.vectors))
    elseif write.without_vectors then
      redis.call('HDEL', KEYS[5], write.id)
    end
    redis.call('ZADD', KEYS[3], count, write.id)
  end
  redis.call('ZADD', KEYS[2], count, nonce)
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -CALLS_KEPT - 1)
  redis.call('SET', KEYS[1], string.format('%s %.0f %s', epoch, count, nonce))
end
return { epoch, count, nonce, unpack(reply) }
