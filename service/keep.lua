-- Keep a computed state, but only if the session is still exactly what it was computed from.
--
-- KEYS  1 clicks   2 state
-- ARGV  1 the head the state belongs to (nonce and count)   2 the state
-- Gives 1 where it was kept, 0 where clicks, a deletion or the end of the session came first.

if redis.call('LINDEX', KEYS[1], 0) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'PX', math.max(redis.call('PTTL', KEYS[1]), 1))
return 1
