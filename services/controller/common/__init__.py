"""What several controllers share: pod predicates, pods from templates, adoption, batches, hashes, revisions, status writes."""
