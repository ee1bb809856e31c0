-- ARGV from 2, for each settlement: the job; what must hold; the next state, as numbers; the attempt that ends, or nothing;
-- and the outcome. Gives for each whether it was written.

local held, ended = {}, { finished = {}, dead = {} }

-- What many jobs have in common is done at once, but before one of them is settled again.
local function flush()
    for worker, ids in pairs(held) do
        call_all('HDEL', KEYS[1] .. 'held:' .. worker, ids)
    end
    for where, scored in pairs(ended) do
        call_all('ZADD', KEYS[1] .. where, scored)
    end
    held, ended = {}, { finished = {}, dead = {} }
end

local function holds(job, hold)
    local kind, state = hold:sub(1, 1), struct.unpack('B', job)
    if kind == 'L' then
        return state == RUNNING and job:sub(3, 22) == hold:sub(2)
    elseif job:sub(3, 6) ~= hold:sub(2, 5) then
        return false
    elseif kind == 'E' then
        return state == RUNNING and ran_out(job:sub(7, 22), struct.unpack('>i8', hold, 6))
    end
    return state == struct.unpack('B', hold, 6)
end

local function ends_in(state)
    return state == DEAD and 'dead' or 'finished'
end

local function lane_of(job)
    return job:sub(110, 109 + struct.unpack('>I4', job, 102))
end

-- Takes a job from where its state had put it.
local function remove(id, job)
    local state = struct.unpack('B', job)
    if state == RUNNING then
        local worker = job:sub(7, 22)
        held[worker] = held[worker] or {}
        table.insert(held[worker], id)
        return
    end
    flush()
    if state ~= WAITING then
        call('ZREM', KEYS[1] .. ends_in(state), id)
        return
    end
    for _, where in ipairs({ 'ready:', 'suspects:', 'later:' }) do
        call('ZREM', KEYS[1] .. where .. lane_of(job), id)
    end
end

local answer, news, over, work = {}, {}, {}, false
for at = 2, #ARGV, 5 do
    local id, attempt, outcome = ARGV[at], ARGV[at + 3], ARGV[at + 4]
    local job = call('GET', job_key .. id)
    if job and holds(job, ARGV[at + 1]) then
        local state, is_due, suspect, failures, shape, time = struct.unpack('>BBBI4Bi8', ARGV[at + 2])
        remove(id, job)
        local rank, lane, args = struct.unpack('>h', job, 84), struct.unpack('>I4I4', job, 102)
        local body = 109 + lane + args
        local last = job:sub(body + 1, body + struct.unpack('>I4', job, 76))
        if attempt == '' then
            attempt = last
        elseif last ~= '' then
            call('RPUSH', KEYS[1] .. 'h:' .. id, last)
        end
        local flags = struct.unpack('B', job, 2)
        call('SET', job_key .. id, table.concat({
            struct.pack('BB', state, flags - flags % 2 + suspect), job:sub(3, 22),
            struct.pack('>I4', failures), job:sub(27, 66),
            struct.pack('>i8BI4I4', time, shape, #attempt, #outcome), job:sub(84, body), attempt, outcome,
        }))
        if state == WAITING then
            work = true
            if is_due == 0 then
                wait('later', lane_of(job), { time, id })
            else
                wait(suspect == 1 and 'suspects' or 'ready', lane_of(job), { rank, id })
                reach_to(time)
            end
        else
            local scored = ended[ends_in(state)]
            scored[#scored + 1], scored[#scored + 2] = time, id
            over[#over + 1] = id
        end
        news[#news + 1] = id
        answer[#answer + 1] = 1
    else
        answer[#answer + 1] = 0
    end
end
flush()
tell(news, over, work)
return answer
