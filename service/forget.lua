-- Forget a user. The hashed event ids stay a little longer as a tombstone, so that a click repeated
-- from before the deletion does not bring the user back.
--
-- KEYS  1 clicks   2 state   3 events
-- ARGV  1 how long the tombstone stays, in ms

redis.call('DEL', KEYS[1], KEYS[2])
redis.call('PEXPIRE', KEYS[3], ARGV[1])
return 1
