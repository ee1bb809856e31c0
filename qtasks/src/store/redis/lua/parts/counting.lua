-- How many jobs each lane has in each state: a hash with a field for each pair of them.

-- By how much this script has changed the counts.
local tallies = {}

local function tally(state, lane, more)
    local field = state .. lane
    tallies[field] = (tallies[field] or 0) + more
end

-- Counts jobs of a lane that come from one state into another.
local function tally_move(from, to, lane, jobs)
    tally(from, lane, -jobs)
    tally(to, lane, jobs)
end

-- Writes each count once, however many jobs have changed it.
local function write_tallies()
    for field, more in pairs(tallies) do
        if more ~= 0 then
            call('HINCRBY', key('counts'), field, more)
        end
    end
end

