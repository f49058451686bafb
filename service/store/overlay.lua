-- Layout of the live catalogue, the changes of items since a bundle was made. This text is put before
-- overlay_put.lua and overlay_read.lua. All keys have one hash tag and never expire.
--
-- KEYS  1 version  'epoch count nonce': a random text made with the first change; the number of
--                  changes of single items so far; a random text of the last call that changed any
--       2 calls    sorted set: nonce of a call -> count after it, for the last CALLS_KEPT calls
--       3 changes  sorted set: item id -> count at its last change
--       4 items    hash: item id -> JSON {available, changed, attributes: {name: JSON text}}, all
--                  values strings; `available` is '0' or '1', `changed` epoch seconds
--       5 vectors  hash: item id -> JSON {name: base64 of float32}
--
-- The nonces prove that a reader has seen a part of this history: it sends the count and the nonce
-- that it read last. Redis does not know that pair after it lost data, was restored from a backup or
-- was replaced by a replica that was behind. The reader then reads everything again.

local CALLS_KEPT = 10000

local function version()
  local epoch, count, nonce = string.match(redis.call('GET', KEYS[1]) or '', '^(%S+) (%d+) (%S+)$')
  return epoch or '', tonumber(count or 0), nonce or ''
end
