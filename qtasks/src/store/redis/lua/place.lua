-- ARGV from 2: the job; and its new queue behind a `=`, its new rank, and when it will be due, each or nothing.
-- Gives whether it was moved: it waits, and never started.

local id, queue, rank, due = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local job, standing = unpack(call('MGET', JOB .. id, STANDING .. id))
if not job or not never_started(standing) then
    return 0
end
begin_though_full()

local old_rank, old_due, times, of_more, length = struct.unpack('>hi8c16c2I2', job)
local lane = job:sub(31, 30 + length)
rank, due = tonumber(rank) or old_rank, tonumber(due) or standing and due_or_ended(standing) or old_due

-- The lane of the same task in the new queue.
local function new_lane()
    if queue == '' then
        return lane
    end
    local size = lane:match('^%d+')
    local name = queue:sub(2)
    return #name .. ':' .. name .. lane:sub(#size + tonumber(size) + 2)
end

take_out(id, lane, standing)
local to = new_lane()
put(id, struct.pack('>hi8', rank, due) .. times .. of_more .. struct.pack('>I2', #to) .. to .. job:sub(31 + length), standing, to, due)
tally(WAITING, lane, -1)
tally(WAITING, to, 1)
write_tallies()
notify({ id }, {}, true)
return 1
