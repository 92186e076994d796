-- Health of a ClusterIdentityProvider: whether the operator may act through it, and whether the identity provider
-- asks before it issues tokens.

-- Status and conditions may be missing or of any shape: nothing here is taken for granted.
local function map(value)
  if type(value) == "table" then return value end
  return {}
end

local function text(value)
  if type(value) == "string" then return value end
  return nil
end

local metadata, status = map(obj.metadata), map(obj.status)
local conditions = {}
for _, condition in ipairs(map(status.conditions)) do
  local name = text(map(condition).type)
  if name ~= nil then conditions[name] = condition end
end

local function is(name, value)
  return map(conditions[name]).status == value
end

local function say(health, message)
  return {status = health, message = text(message)}
end

if metadata.deletionTimestamp ~= nil then
  return say("Progressing", "Being deleted")
end

local ready = map(conditions.Ready)
if status.observedGeneration ~= metadata.generation or conditions.Ready == nil then
  return say("Progressing", "Nobody has looked at this generation yet")
end
if is("Stalled", "True") then
  return say("Degraded", ready.message)
end
if not is("Ready", "True") then
  return say("Progressing", ready.message)
end
-- Nothing is widened until somebody corrects this.
if is("TokenHook", "False") then
  return say("Degraded", map(conditions.TokenHook).message)
end
return say("Healthy", ready.message)
