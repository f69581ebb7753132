-- What a payment was found to pay for, and how many cycles of it, when it was first found good. Prices that change later change nothing
-- about it. NULL: it was not found good yet.
ALTER TABLE payments ADD COLUMN good_for_plan TEXT;
ALTER TABLE payments ADD COLUMN good_for_cycle TEXT;
ALTER TABLE payments ADD COLUMN good_for_cycles BIGINT;

-- Those that each night looks at anew.
CREATE INDEX payments_not_good ON payments (user_id) WHERE good_for_cycles IS NULL;

-- When an operator has settled money that went back of a payment that is not in the books.
ALTER TABLE reversals ADD COLUMN settled_at TIMESTAMP;
