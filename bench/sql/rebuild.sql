-- What the rebuild is compared with: the same rows, by one statement over the log.
CREATE TABLE query_model_by_hand (LIKE bank_account_query_model INCLUDING ALL);
