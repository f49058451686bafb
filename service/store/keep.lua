-- Store a computed state if the session is still the one that the state was computed from.
--
-- KEYS  1 the user's key, see session.lua
-- ARGV  1 nonce and count that the state belongs to, as the head begins with them   2 the state
-- Return 1 if the state was stored; 0 if clicks or a deletion came first, or the key has expired.

local head = redis.call('LINDEX', KEYS[1], 0)
if not head or string.sub(head, 1, #ARGV[1]) ~= ARGV[1] then return 0 end
redis.call('LSET', KEYS[1], 1, ARGV[2])
return 1
