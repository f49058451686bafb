-- Read one page of the items that changed after a count, in the order of their changes. Readers ask
-- several times a second; where nothing changed, one GET is all.
--
-- KEYS  as overlay.lua says
-- ARGV  1 count and 2 nonce that the reader read last; an empty nonce if it knows nothing
--       3 count after which to read   4 items of a page, at most   5 bytes of a page, about
-- Return epoch, count, nonce, then id, count, item, vectors (or false) for every item; or false if
-- the reader has seen another history.

local epoch, count, nonce = version()
if ARGV[2] == nonce and tonumber(ARGV[3]) == count then return { epoch, count, nonce } end
if ARGV[2] ~= '' and redis.call('ZSCORE', KEYS[2], ARGV[2]) ~= ARGV[1] then return false end
local reply, bytes = { epoch, count, nonce }, 0
local ids = redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. ARGV[3], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[4])
for at = 1, #ids, 2 do
  local item = redis.call('HGET', KEYS[4], ids[at]) or '{}'
  local vectors = redis.call('HGET', KEYS[5], ids[at])
  reply[#reply + 1], reply[#reply + 2] = ids[at], ids[at + 1]
  reply[#reply + 1], reply[#reply + 2] = item, vectors
  bytes = bytes + #item + (vectors and #vectors or 0)
  if bytes > tonumber(ARGV[5]) then break end
end
return reply
