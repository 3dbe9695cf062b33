"""HTTP: routes, schemas, keys, and what an error means as a status. It asks the gateway and decides nothing."""
