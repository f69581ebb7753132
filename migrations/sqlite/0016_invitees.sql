-- Whose payments make an invite paid is asked with each account that begins to pay.
CREATE INDEX invites_by_invitee ON invites (invitee) WHERE invitee IS NOT NULL;
