"""How the agent is: metrics, health, and the address at which it tells them. Nothing here decides anything."""
