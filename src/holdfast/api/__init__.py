"""HTTP: routes, schemas, keys, and the status for each error. It calls the gateway and makes no decisions."""
