"""What an object is: resource table, schemas, names, quantities, selectors, patches, field ownership, errors. No I/O."""
