-- Log lists that were answered to users of one shard, in the order of the calls.
--
-- KEYS  1 the stream of the shard, see entries.py
--       then the user's key of every list, see service/store/session.lua
-- ARGV  1 bytes of the stream above which no list is logged
--       then for every list: the nonce of the session that it was made for ('' for none), its data
-- Return the number of lists that were logged, and of those whose session has ended.
--
-- A deletion must not be followed by entries of before. Lists wait for a moment before they are
-- logged, so a list is dropped if its session is over. A user without a session had no nonce, but
-- a deletion leaves a key without one, and the nonce of a session that begins then is odd.

if (redis.call('MEMORY', 'USAGE', KEYS[1]) or 0) > tonumber(ARGV[1]) then return { 0, 0 } end
local logged, ended = 0, 0
for at = 2, #KEYS do
  local nonce, data = ARGV[2 * at - 2], ARGV[2 * at - 1]
  local head = redis.pcall('LINDEX', KEYS[at], 0)
  local current = type(head) == 'string' and string.match(head, '^%d*') or nil
  local goes_on = current == nonce
  if nonce == '' then goes_on = not head or (current and string.match(current, '[02468]$')) end
  if goes_on then
    local user = string.sub(KEYS[at], -16)
    redis.call('XADD', KEYS[1], '*', 'k', 'i', 'u', user, 's', nonce, 'd', data)
    logged = logged + 1
  else
    ended = ended + 1
  end
end
return { logged, ended }
