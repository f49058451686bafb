-- Keep a computed state, but only if the session is still exactly what it was computed from.
--
-- KEYS  1 the user's list, see session.lua
-- ARGV  1 the nonce and count that the state belongs to, as the head begins   2 the state
-- Return 1 where it was kept, 0 where clicks or a deletion came first, or the key has expired.

local head = redis.call('LINDEX', KEYS[1], 0)
if not head or string.sub(head, 1, #ARGV[1]) ~= ARGV[1] then return 0 end
redis.call('LSET', KEYS[1], 1, ARGV[2])
return 1
