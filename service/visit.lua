-- One visit of one user, atomic: add clicks, drop repeats, trim, renew, return all that is known.
--
-- KEYS  1 clicks: a list; its first entry is the head (16 characters nonce, then the click count),
--                 the others are the last clicks, oldest first
--       2 state:  the cached hidden state, opaque here
--       3 events: a sorted set of the event ids seen, oldest lowest; below 0 from before a DELETE
-- ARGV  1 window: clicks kept   2 idle time in ms   3 event ids kept
--       then for every click: its entry, its event id ("" for none)
-- Gives nonce, count, accepted, duplicates, how many of these were forgotten by a DELETE, 1 where
-- Redis takes no writes now, remaining ms, state (or false), then the entries.

local window, idle, kept = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
-- before anything is written: what fails later would leave half of a visit behind
if not (window >= 1 and window <= 1e6 and idle >= 1 and idle <= 1e15 and kept >= 1 and kept <= 1e9)
then return redis.error_reply('limits that no visit has') end
local head = redis.call('LINDEX', KEYS[1], 0)
local nonce, count = '', 0
if head then
  nonce, count = string.sub(head, 1, 16), tonumber(string.sub(head, 17))
  if not count then return redis.error_reply('what is stored is no session') end
end
local state = redis.pcall('GET', KEYS[2])
if type(state) == 'table' then state = false end  -- not a string: somebody else's, no state

local accepted, duplicates, forgotten = {}, 0, 0

local function record()
  local rank
  for at = 4, #ARGV, 2 do
    local event, known = ARGV[at + 1], false
    if event ~= '' then
      known = redis.call('ZSCORE', KEYS[3], event)
      if not known then
        if rank == nil then
          local newest = redis.call('ZRANGE', KEYS[3], -1, -1, 'WITHSCORES')
          rank = math.max(tonumber(newest[2] or '0'), 0)
        end
        rank = rank + 1
        redis.call('ZADD', KEYS[3], rank, event)
      elseif tonumber(known) < 0 then
        forgotten = forgotten + 1
      end
    end
    if known then duplicates = duplicates + 1 else accepted[#accepted + 1] = ARGV[at] end
  end
  if #accepted == 0 then return end

  if head then
    redis.call('LPOP', KEYS[1])
  else
    local now = redis.call('TIME')
    nonce = string.format('%010d%06d', now[1], now[2])
  end
  for _, entry in ipairs(accepted) do redis.call('RPUSH', KEYS[1], entry) end
  redis.call('LTRIM', KEYS[1], -window, -1)
  count = count + #accepted
  redis.call('LPUSH', KEYS[1], nonce .. string.format('%d', count))
  redis.call('PEXPIRE', KEYS[1], idle)
  redis.call('PEXPIRE', KEYS[2], idle)
  if rank ~= nil then redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -(kept + 1)) end
  -- a tombstone may have longer to live than a session
  if redis.call('PTTL', KEYS[3]) < idle then redis.call('PEXPIRE', KEYS[3], idle) end
end

-- Redis refuses the first write of a script or none: full memory, a replica, a disk that failed,
-- replicas that are missing. Nothing has changed then, and what is stored can still be read.
local function takes_no_writes(said)
  for _, code in ipairs({ 'OOM ', 'READONLY ', 'MISCONF ', 'NOREPLICAS ' }) do
    if string.find(said, code, 1, true) then return true end
  end
  return false
end

local refused = 0
if #ARGV > 3 then
  local done, failed = pcall(record)
  if not done then
    local said = type(failed) == 'table' and failed.err or failed
    if not takes_no_writes(said) then return redis.error_reply(said) end
    accepted, duplicates, forgotten, refused = {}, 0, 0, 1
    if not head then nonce = '' end
  end
end

local left = redis.call('PTTL', KEYS[1])
local known = { nonce, count, #accepted, duplicates, forgotten, refused, left, state }
for _, entry in ipairs(redis.call('LRANGE', KEYS[1], 1, -1)) do known[#known + 1] = entry end
return known
