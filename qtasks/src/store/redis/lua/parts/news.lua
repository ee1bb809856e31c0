-- What processes tell each other.

-- Tells all processes what is new: of which jobs, which of them have ended, whether there is work, and whether a worker is
-- gone.
local function tell(news, ended, work, lost)
    if #news > 0 or work or lost then
        local flags = (work and 1 or 0) + (lost and 2 or 0)
        local told = ARGV[1] .. struct.pack('>BI4', flags, #news) .. table.concat(news) .. table.concat(ended)
        call('PUBLISH', key('news'), told)
    end
end

