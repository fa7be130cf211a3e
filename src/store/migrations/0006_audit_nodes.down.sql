DROP TABLE audit_node;
