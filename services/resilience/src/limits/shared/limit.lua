-- One limit, one key, one step: what a replica had is settled, then it draws. `mod.rs` says why this is exact.
--
-- KEYS  1 the key
-- ARGV  1 'g' (GCRA) or 'w' (Window)   2 requests   3 window in us   4 'g': burst, 'w': memory in us
--       5 tokens wanted   6 1 if they are a lease, to be used later; 0 if they are used at once
--       7 Redis' time of the draw that ends, 0 for none   8 tokens of that draw if it was a lease, else 0
--       9 tokens of it that come back
-- Out   granted, left, us until more are left, us until one is left, Redis' time in us
--
-- GCRA    1 requests window level at slot lease lease lease lease
--         The level is counted in us * requests, so that a token costs `window`, a microsecond drains `requests`, and
--         all of it are whole numbers.
-- Window  2 width epoch count * 16, newest first
local LEASE_SLOTS, LEASE_SLOT, LEASES_KEPT = 4, 500000, 2000000
local COUNTS = 16

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local requests, window, most = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local wanted, lease = tonumber(ARGV[5]), ARGV[6] == '1'
local drawn, ended, returned = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])

-- Whatever else stands there counts as nothing and is written over.
local state = {}
local text = redis.pcall('GET', KEYS[1])
if type(text) == 'string' then
  for number in string.gmatch(text, '%d+') do
    state[#state + 1] = tonumber(number)
  end
end
local kind = state[1]
if not ((kind == 1 and #state == 10 and state[3] > 0) or (kind == 2 and #state == COUNTS + 3 and state[2] > 0)) then
  kind = nil
end

-- The level of a GCRA state at this moment. A token that a replica still has must not have drained away: the level is
-- at least what is leased, until no such lease can be alive. A clock that was set back drains nothing.
local function level_now()
  local passed = math.max(0, now - state[5])
  local leased = (state[7] + state[8] + state[9] + state[10]) * state[3]
  return math.max(0, state[4] - passed * state[2], leased - math.max(0, passed - LEASES_KEPT) * state[2])
end

-- The counts of a Window state, moved up to this moment.
local function counts_now(width)
  local counts = {}
  for age = 1, COUNTS do
    counts[age] = 0
  end
  local passed = math.max(0, math.floor(now / width) - state[3])
  for age = 1, COUNTS - passed do
    counts[age + passed] = state[3 + age]
  end
  return counts
end

local function sum(numbers)
  local total = 0
  for _, number in ipairs(numbers) do
    total = total + number
  end
  return total
end

local function write(first, numbers, milliseconds)
  local parts = {}
  for _, number in ipairs(first) do
    parts[#parts + 1] = string.format('%.0f', number)
  end
  for _, number in ipairs(numbers) do
    parts[#parts + 1] = string.format('%.0f', number)
  end
  redis.call('SET', KEYS[1], table.concat(parts, ' '), 'PX', string.format('%.0f', math.max(1, math.ceil(milliseconds))))
end

if ARGV[1] == 'g' then
  local capacity = most * window
  local slot = math.floor(now / LEASE_SLOT)
  local level, leases, same = 0, { 0, 0, 0, 0 }, false
  if kind == 1 then
    level = level_now()
    same = state[2] == requests and state[3] == window
    if not same then
      level = math.ceil(level * window / state[3])
    end
    local passed = math.max(0, slot - state[6])
    for age = 1, LEASE_SLOTS - passed do
      leases[age + passed] = state[6 + age]
    end
  elseif kind == 2 then
    level = sum(counts_now(state[2])) * window
  end
  level = math.min(level, capacity)
  if drawn > 0 then
    local age = slot - math.floor(drawn / LEASE_SLOT) + 1
    if ended > 0 then
      if age >= 1 and age <= LEASE_SLOTS and leases[age] >= ended then
        leases[age] = leases[age] - ended
        level = math.max(0, level - returned * window)
      end
    else
      -- Not a lease: only what has not drained meanwhile comes back.
      level = math.max(0, level - math.max(0, returned * window - math.max(0, now - drawn) * requests))
    end
  end
  local free = math.max(0, math.floor((capacity - level) / window))
  local granted = math.min(wanted, free)
  level = level + granted * window
  if lease then
    leases[1] = leases[1] + granted
  end
  local left, reset, retry = free - granted, math.ceil(level / requests), 0
  if left == 0 then
    retry = math.max(1, math.ceil((level + window - capacity) / requests))
  end
  if granted > 0 or drawn > 0 or not same or state[5] > now then
    local leased = sum(leases)
    if level == 0 and leased == 0 then
      redis.call('DEL', KEYS[1])
    else
      local kept = leased > 0 and LEASES_KEPT / 1000 or 0
      write({ 1, requests, window, level, now, slot }, leases, reset / 1000 + kept)
    end
  end
  return { granted, left, reset, retry, now }
end

local width = math.ceil(most / (COUNTS - 1))
local epoch = math.floor(now / width)
local counts
if kind == 2 and state[2] == width then
  counts = counts_now(width)
else
  -- Other numbers: what was used counts as used now. Nobody gains, nobody waits longer than the new window.
  local used = 0
  if kind == 2 then
    used = sum(counts_now(state[2]))
  elseif kind == 1 then
    used = math.ceil(level_now() / state[3])
  end
  counts = { math.min(used, requests) }
  for age = 2, COUNTS do
    counts[age] = 0
  end
end
if drawn > 0 and returned > 0 then
  local age = epoch - math.floor(drawn / width) + 1
  if age >= 1 and age <= COUNTS and counts[age] >= returned then
    counts[age] = counts[age] - returned
  end
end
local free = math.max(0, requests - sum(counts))
local granted = math.min(wanted, free)
counts[1] = counts[1] + granted
local left, reset, retry = free - granted, 0, 0
for age = COUNTS, 1, -1 do
  if counts[age] > 0 then
    reset = (epoch - age + 1 + COUNTS) * width - now
    break
  end
end
if left == 0 then
  retry = math.max(1, reset)
end
if granted > 0 or drawn > 0 or kind ~= 2 or state[2] ~= width or state[3] > epoch then
  if reset == 0 then
    redis.call('DEL', KEYS[1])
  else
    write({ 2, width, epoch }, counts, COUNTS * width / 1000)
  end
end
return { granted, left, reset, retry, now }
