-- ARGV from 2: the id of the job before the first one or nothing, how many jobs, the state or -1, what the lane begins
-- with, whether the task counts, and the task.
-- Gives where to go on, if there may be more, and of each job the id, the job, how it stands, and its counts.

local behind, limit, state, lane_start = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local task = ARGV[6] == '1' and ARGV[7]
-- As many jobs are looked at, and as many bytes given, at a time; and as many are read at once.
local LOOKS, BYTES, READ = 1000, 1048576, 50

-- The ids in the list.
local function listed()
    local from, to = 0, call('LLEN', key('ids'))
    while behind ~= '' and from < to do
        local middle = math.floor((from + to) / 2)
        if is_before(behind, call('LINDEX', key('ids'), middle)) then
            to = middle
        else
            from = middle + 1
        end
    end
    return call('LRANGE', key('ids'), from, from + LOOKS - 1)
end

-- Those in the list and in the set beside it, in their order, each once.
local function ids()
    local from = behind == '' and '-' or '(' .. behind
    local list, set = listed(), call('ZRANGEBYLEX', key('jobs'), from, '+', 'LIMIT', 0, LOOKS)
    local all, a, b = {}, 1, 1
    while #all < LOOKS and (list[a] or set[b]) do
        if list[a] and (not set[b] or is_before(list[a], set[b])) then
            all[#all + 1], a = list[a], a + 1
        else
            a = list[a] == set[b] and a + 1 or a
            all[#all + 1], b = set[b], b + 1
        end
    end
    return all
end

local function passes(job, standing)
    if state >= 0 and (standing and struct.unpack('B', standing) or WAITING) ~= state then
        return false
    end
    local lane = job:sub(31, 30 + struct.unpack('>I4', job, 27))
    if lane:sub(1, #lane_start) ~= lane_start then
        return false
    end
    local length = lane:match('^%d+')
    return not task or lane:sub(#length + tonumber(length) + 3) == task
end

local all, answer, bytes = ids(), { false }, 0
for from = 1, #all, READ do
    local some = { unpack(all, from, math.min(from + READ - 1, #all)) }
    local jobs, standings, counts = get_all(keys_of(JOB, some)), get_all(keys_of(STANDING, some)), get_all(keys_of(COUNTS, some))
    for index, id in ipairs(some) do
        local job, standing = jobs[index], standings[index]
        if job and passes(job, standing) then
            local count = #answer
            answer[count + 1], answer[count + 2], answer[count + 3], answer[count + 4] = id, job, standing, counts[index]
            bytes = bytes + #job + (standing and #standing or 0)
        end
        if #answer > 4 * limit then
            return answer
        end
        if bytes >= BYTES or from + index > LOOKS then
            answer[1] = id
            return answer
        end
    end
end
return answer
